"""The text of a segment: its operators on one part, with the conversions inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from superscaler.emit.buckets import coalesced_text, segment_buckets
from superscaler.emit.comments import conversion_comment, operator_comment
from superscaler.emit.copies import left_open, segment_copies
from superscaler.emit.emission import Emission
from superscaler.emit.exchange import exchange_constant
from superscaler.emit.function import Function, spec
from superscaler.emit.fuse import Biased, biased_products
from superscaler.emit.literals import call_text
from superscaler.emit.local import LocalView, local_shape
from superscaler.emit.steps import emit_steps
from superscaler.graph.operator import Operator, Phase
from superscaler.materialize.program import Conversion, Read, ValueRef
from superscaler.ops import Call
from superscaler.ops.copies import TO_HOST
from superscaler.runtime.by_time import Time
from superscaler.runtime.program import REDUCTION_MARKS
from superscaler.schedule.segments import Segment
from superscaler.transform.layout import Layout, input_layout, output_layout

# A part's strides are not those that the views of the whole were traced with.
STRIDE_FREE = {
    "aten.view.default": "aten.reshape.default",
    "aten._unsafe_view.default": "aten.reshape.default",
}

# Kernels that take their operands' memory for dense without a check, and would give wrong results
# (found on torch 2.13 by trying every operator of tests/ops/instances.py with odd strides).
DENSE_ONLY = {
    "aten._embedding_bag.default",
    "aten._embedding_bag_backward.default",
    "aten._embedding_bag_per_sample_weights_backward.default",
    "aten.native_group_norm.default",
    "aten.native_group_norm_backward.default",
    "aten.native_layer_norm_backward.default",
    "aten._weight_norm_interface.default",
    "aten._weight_norm_interface_backward.default",
    "aten.view_as_complex.default",
}


def segment_function(emission: Emission, segment: Segment, part: tuple[int, ...]) -> Function:
    """The function that runs `segment` on a part of `part`'s sizes."""
    writer = _Writer(emission, segment, part)
    writer.bring(-1)
    for op in segment.operators:
        writer.operator(op)
    writer.finish()
    return writer.function


@dataclass
class _Writer:
    emission: Emission
    segment: Segment
    part: tuple[int, ...]
    function: Function = field(default_factory=lambda: Function(""))
    local: dict[str, str] = field(default_factory=dict)  # value made here -> variable
    pending: set[str] = field(default_factory=set)
    cuts: dict[object, str] = field(default_factory=dict)
    updates: list[tuple[str, str]] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)  # what is reduced at each microbatch

    def __post_init__(self) -> None:
        self.program = self.emission.program
        self.graph = self.program.partition.graph
        self.axes = self.program.partition.axes
        self.buckets = segment_buckets(self.program, self.emission.constants, self.segment)
        self.copies = segment_copies(self.program, self.segment)
        self.arriving = {self.emission.name(t): n for t, n in self.copies.place.items()}
        self.biased = biased_products(self.program, self.segment)
        self.fused = {op for b in self.biased.values() for op in (b.mm, b.view)}
        self.waiting = {c: set(b.conversions) for b in self.buckets.produced for c in b.conversions}
        self.bucket_of = {c: b for b in self.buckets.produced for c in b.conversions}
        self.used_in = {c: k for k, b in enumerate(self.buckets.used) for c in b.conversions}

    # reading

    def variable(self, value: ValueRef) -> str:
        """The variable that holds a value: made here, or a parameter of the function."""
        if value.name in self.arriving:
            self.bring(self.arriving[value.name])
        if value.name in self.local:
            found = self.local[value.name]
            self.await_variable(found)
            return found
        return self.function.read(value.name, spec(value.name, value.time))

    def read(self, op: int, i: int) -> str:
        """The variable that holds an operator's input, converted and cut as it reads it."""
        read = self.program.reads[op, i]
        if read.conversion >= 0:
            conversion = self.program.conversions[read.conversion]
            if conversion.scope == self.segment.id:
                self.fetch(conversion, op)
        found = self.variable(read.value)
        return self.cut(found, op, i, read) if read.cut else found

    def cut(self, variable: str, op: int, i: int, read: Read) -> str:
        """This part's box out of a value that the parts in time share."""
        partition = self.program.partition
        layout = input_layout(partition, op, i)
        tensor = self.graph.operators[op].inputs[i]
        key = (read.value, layout.key)
        if key in self.cuts:
            return self.cuts[key]
        roles = tuple(-1 if r in read.cut else r for r in layout.roles)
        held = Layout(layout.grid, roles, layout.sizes)
        index = self.emission.part_index(self.segment)

        def box(rank: int, time: Time) -> tuple[tuple[int, int], ...]:
            part = index(rank, time)
            mine, base = layout.box(part), held.box(part)
            return tuple((a - c, b - c) for (a, b), (c, _) in zip(mine, base))

        constant = self.emission.constants.get("box", ("cut", layout.key, held.roles), box)
        name = f"{variable}_part" + (str(len(self.cuts)) if self.cuts else "")
        shape = local_shape(layout, self.part, self.emission.factors(tensor))
        sizes = held.local_sizes(self.part)
        text = f'{name} = ctx.take({variable}, {sizes}, "{constant.name}", {shape})'
        self.function.add(text, (name,), (variable,))
        self.cuts[key] = name
        return name

    # copies between memories

    def bring(self, place: int) -> None:
        """Start the copies in that are due when the one at `place` is used."""
        before = self.function.operators
        for op_id in self.copies.due(place):
            self.function.operators = (op_id,)
            op = self.graph.operators[op_id]
            source, name = self.read(op_id, 0), self.emission.name(op.outputs[0])
            text = f"{name} = ctx.to_device({source})"
            self.function.add(text, (name,), (source,), operator_comment(op))
            self.made(op, (name,), is_pending=True)
        self.function.operators = before

    def copy_out(self, op: Operator) -> None:
        """Start a copy to the host; an earlier one must be over by now."""
        source, name = self.read(op.id, 0), self.emission.name(op.outputs[0])
        text = f"{name} = ctx.to_host({source})"
        self.function.add(text, (name,), (source,), operator_comment(op))
        self.made(op, (name,), is_pending=True)
        for earlier in self.copies.out(name):
            self.await_variable(earlier)

    def await_variable(self, variable: str) -> None:
        if variable in self.pending:
            self.function.add(f"{variable} = ctx.wait({variable})", (variable,), (variable,))
            self.pending.discard(variable)

    # conversions inside

    def fetch(self, conversion: Conversion, reader: int) -> None:
        """Convert what an operator is about to read; gathers in buckets, one bucket ahead."""
        number = self.used_in.get(conversion.id)
        if number is None:
            if conversion.name not in self.local:
                self.convert(conversion, reader)
            return
        for bucket in self.buckets.used[number : number + 2]:
            members = [self.program.conversions[c] for c in bucket.conversions]
            if members[0].name not in self.local:
                self.convert_together(members)

    def finished(self, conversion: Conversion) -> None:
        """A value that leaves is made: convert it, or its bucket when it is the last one."""
        bucket = self.bucket_of.get(conversion.id)
        if bucket is None:
            if conversion.name not in self.local:
                self.convert(conversion, -1)
            return
        waiting = self.waiting[bucket.conversions[0]]
        waiting.discard(conversion.id)
        if not waiting:
            self.convert_together([self.program.conversions[c] for c in bucket.conversions])

    def convert_together(self, members: list[Conversion]) -> None:
        sources = [self.source(c) for c in members]
        names = tuple(c.name for c in members)
        text = coalesced_text(self.program, self.emission.constants, members, sources)
        comment = f"{len(members)} together, first {self.comment(members[0])}"
        self.function.conversions = tuple(c.id for c in members)
        self.function.add(f"{', '.join(names)} = {text}", names, tuple(sources), comment)
        self.function.conversions = ()
        for name in names:
            self.local[name] = name
            self.pending.add(name)
        self.reduced_early(members)

    def reduced_early(self, members: list[Conversion]) -> None:
        """Wait for what was on its way before what is reduced for later sums, so that what it is
        made from is not kept."""
        if all(c.into is None for c in members):
            return
        for name in self.under_way:
            self.await_variable(name)
        self.under_way = [c.name for c in members]

    def source(self, conversion: Conversion) -> str:
        """The variable that a conversion inside starts from."""
        tensor = conversion.tensor
        maker = self.graph.producer.get(tensor)
        if maker is not None and self.program.tasks.home[maker[0]] == self.segment.id:
            return self.variable(ValueRef(conversion.source_name, ()))
        times = tuple((0,) if s < 0 else s for s in conversion.route.match.sources)
        return self.variable(ValueRef(conversion.source_name, times))

    def convert(self, conversion: Conversion, reader: int) -> None:
        tensor = conversion.tensor
        route, factors = conversion.route, self.emission.factors(tensor)
        source = self.source(conversion)
        comment = self.comment(conversion)
        self.function.conversions = (conversion.id,)
        if route.is_general:
            constant = exchange_constant(self.program, self.emission.constants, conversion)
            shape = local_shape(route.target, self.part, factors)
            dtype = self.graph.tensors[tensor].dtype
            call = f'ctx.exchange({{(): {source}}}, "{constant.name}", {shape}, {dtype})'
            text = f"{conversion.name} = {call}"
            self.function.add(text, (conversion.name,), (source,), comment)
        else:
            assert route.paths is not None
            steps = next(iter(route.paths.values())).steps
            emit_steps(
                self.function,
                conversion.name,
                source,
                route,
                steps,
                factors,
                self.emission.constants,
                comment,
            )
        self.function.conversions = ()
        self.local[conversion.name] = conversion.name
        self.pending.add(conversion.name)
        self.reduced_early([conversion])

    def comment(self, conversion: Conversion) -> str:
        return conversion_comment(self.program, conversion)

    # operators

    def operator(self, op_id: int) -> None:
        op = self.graph.operators[op_id]
        self.function.operators = (op_id,)
        if op.phase is Phase.UPDATE:
            self.update(op)
            return
        if op_id in self.fused or op_id in self.copies.arriving:
            return
        if op.target == TO_HOST:
            self.copy_out(op)
            return
        if op_id in self.biased:
            self.biased_product(op, self.biased[op_id])
            return
        names = [self.read(op_id, i) for i in range(len(op.inputs))]
        call = self.local_call(op)
        outputs = [self.emission.name(t) if t >= 0 else "_" for t in op.outputs]
        target = STRIDE_FREE.get(call.target, call.target)
        kwargs = call.kwargs
        if not op.inputs and takes_device(target):
            kwargs = {**kwargs, "device": torch.device("cpu")}  # written as ctx.device
        dense = ".contiguous()" if target in DENSE_ONLY else ""
        text = call_text(target, call.args, kwargs, lambda ref: names[ref.position] + dense)
        left = (
            ", ".join(outputs) if returns_one(op.target) or len(outputs) > 1 else f"[{outputs[0]}]"
        )
        self.function.add(f"{left} = {text}", tuple(outputs), tuple(names), operator_comment(op))
        self.made(op, tuple(outputs))

    def made(self, op: Operator, names: tuple[str, ...], is_pending: bool = False) -> None:
        """Take note of an operator's outputs, and convert what leaves."""
        for t, name in zip(op.outputs, names):
            if t >= 0:
                self.local[name] = name
                self.pending |= {name} if is_pending else set()
        for conversion in self.emission.inline.get(op.id, ()):
            self.finished(conversion)

    def biased_product(self, op: Operator, chain: Biased) -> None:
        """One `addmm` for a product, its view and the bias."""
        self.function.operators = (chain.mm, chain.view, op.id)
        bias = self.read(op.id, chain.bias)
        x, w = self.read(chain.mm, 0), self.read(chain.mm, 1)
        name = self.emission.name(op.outputs[0])
        layout = output_layout(self.program.partition, op.id, 0)
        shape = list(local_shape(layout, self.part, self.emission.factors(op.outputs[0])))
        comment = operator_comment(self.graph.operators[chain.mm])
        flat = len(shape) == 2
        text = f"aten.addmm.default({bias}, {x}, {w})"
        text = text if flat else f"aten.reshape.default({text}, {shape})"
        self.function.add(f"{name} = {text}", (name,), (bias, x, w), comment)
        self.made(op, (name,))

    def local_call(self, op: Operator) -> Call:
        axes, placed = self.axes.operators[op.id], self.program.partition.placed[op.id]
        call = Call(op.target, op.args, op.kwargs)
        if axes.rule.local is None or not any(r >= 0 for r in placed.roles):
            return call
        return axes.rule.local(call, self.view(op))

    def view(self, op: Operator) -> LocalView:
        partition = self.program.partition
        return LocalView(
            self.axes.operators[op.id],
            partition.placed[op.id],
            self.part,
            tuple(input_layout(partition, op.id, i) for i in range(len(op.inputs))),
            tuple(output_layout(partition, op.id, k) for k in range(len(op.outputs))),
            tuple(self.emission.factors(t) for t in op.inputs),
            tuple(self.emission.factors(t) for t in op.outputs),
            self.emission.constants,
            self.emission.part_index(self.segment),
        )

    def update(self, op: Operator) -> None:
        """The real optimizer steps all parameters of the segment in one call, at its end."""
        param = self.program.reads[op.id, 0].value
        self.updates.append((param.name, self.read(op.id, 1)))

    # the end

    def finish(self) -> None:
        self.bring(len(self.copies.arriving))
        may_be_open = {self.emission.name(t) for t in left_open(self.emission, self.segment)}
        for variable in self.copies.leaving:
            if variable not in may_be_open:
                self.await_variable(variable)
        if self.updates:
            self.function.operators = tuple(
                op
                for op in self.segment.operators
                if self.graph.operators[op].phase is Phase.UPDATE
            )
            entries = ", ".join(f"{self._update_key(name)}: {grad}" for name, grad in self.updates)
            self.function.add(
                f"ctx.optimizer_step({{{entries}}})", (), tuple(g for _, g in self.updates)
            )
        positions = tuple(range(len(self.segment.time_shape)))
        for name, variable in self.local.items():
            if name in self.emission.read_outside:
                self.function.writes.append((variable, spec(name, positions)))
        for op in self.segment.operators:
            for tensor in self.graph.operators[op].outputs:
                for total, kept, reduce in self.program.accumulated.get(tensor, ()):
                    how = REDUCTION_MARKS[reduce]
                    self.function.writes.append(
                        (self.emission.name(tensor), spec(total, kept) + how)
                    )

        for conversion in self.program.inline_of(self.segment.id):
            if conversion.into is not None:
                total, kept, reduce = conversion.into
                how = REDUCTION_MARKS[reduce]
                self.function.writes.append((conversion.name, spec(total, kept) + how))

    def _update_key(self, name: str) -> str:
        return f'"{name}"' if not self.segment.time_shape else f'("{name}", ctx.time)'


@cache
def _schema(target: str) -> Any:
    resolved: Any = torch.ops
    for piece in target.split("."):
        resolved = getattr(resolved, piece)
    return resolved._schema


def takes_device(target: str) -> bool:
    """Whether the operator can be told on which device to make its result."""
    return any(a.name == "device" for a in _schema(target).arguments)


def returns_one(target: str) -> bool:
    """Whether the operator returns one tensor (not a tuple or list)."""
    returns = _schema(target).returns
    return len(returns) == 1 and str(returns[0].type) == "Tensor"
