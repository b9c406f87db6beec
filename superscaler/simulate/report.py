"""Report: a simulation's result from the times of all actions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from superscaler.dtypes import dtype_name
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Phase
from superscaler.ops.flops import operator_flops
from superscaler.simulate.events.engine import Span, Timing
from superscaler.simulate.events.fold import Network
from superscaler.simulate.events.meet import Met
from superscaler.simulate.functions import functions_of
from superscaler.simulate.scripts.maker import ScriptMaker
from superscaler.simulate.scripts.script import EVERYONE, Await, Compute, Script
from superscaler.simulate.simulation import Event, RankClass, Simulation
from superscaler.simulate.traffic import sent_by_link, traffic


def report(
    maker: ScriptMaker,
    network: Network,
    classes: Sequence[tuple[int, ...]],
    met: Sequence[Met],
    timing: Timing,
    name: str,
) -> Simulation:
    """The simulation of classes of ranks from what happens when."""
    machine = maker.machine
    functions, numbers = functions_of(maker, network, met, classes)
    view = _View(maker, network, classes, met, timing, numbers)
    graph = maker.compiled.program.partition.graph
    world_size = len(network.script_of)
    sent = sent_by_link(classes, met, machine)
    found = tuple(view.rank_class(c, sent[c]) for c in range(len(classes)))
    total: Counter[str] = Counter()
    for rank_class in found:
        for link, size in rank_class.sent_bytes.items():
            total[link] += size * len(rank_class.ranks)
    dtype = _main_dtype(graph)
    return Simulation(
        name=name,
        cluster=machine.cluster.name,
        world_size=world_size,
        step_us=timing.end_us,
        classes=found,
        functions=functions,
        traffic=tuple(traffic(network, classes, met, machine)),
        link_bytes=dict(sorted(total.items())),
        flops=step_flops(graph),
        peak_tflops=sum(
            machine.cluster.device(rank).peak_tflops(dtype) for rank in range(world_size)
        ),
        notes=maker.compiled.program.notes,
    )


class _View:
    """What a class sees of the timing."""

    def __init__(
        self,
        maker: ScriptMaker,
        network: Network,
        classes: Sequence[tuple[int, ...]],
        met: Sequence[Met],
        timing: Timing,
        numbers: dict[str, int],
    ) -> None:
        self.maker, self.network, self.classes = maker, network, classes
        self.met, self.timing, self.numbers = met, timing, numbers
        self.of_post: dict[tuple[int, int], list[int]] = {}
        self.of_class: dict[int, list[tuple[int, int, int]]] = {}  # meeting, posting, its part
        for number, meeting in enumerate(met):
            for i, (c, post, _) in enumerate(meeting.parts):
                self.of_class.setdefault(c, []).append((number, post, i))
                if i in meeting.receivers:
                    self.of_post.setdefault((c, post), []).append(number)

    def rank_class(self, c: int, sent: dict[str, int]) -> RankClass:
        ranks = self.classes[c]
        number = self.network.script_of[ranks[0]]
        script = self.network.scripts[number]
        spans = self.timing.actions[c]
        events = [*self.runs(c, script, spans), *self.communications(c, script)]
        events.sort(key=lambda e: (e.start_us, e.lane, e.end_us))
        busy: defaultdict[str, float] = defaultdict(float)
        for event in events:
            busy[event.lane] += event.end_us - event.start_us if event.kind != "wait" else 0.0
        device = self.maker.machine.cluster.device(ranks[0])
        return RankClass(
            ranks=ranks,
            program=number,
            events=tuple(events),
            memory=_curve(script, spans),
            resident_bytes=script.resident_bytes,
            peak_bytes=script.peak_bytes,
            capacity_bytes=device.memory_bytes,
            holders=script.holders,
            busy_us=dict(sorted(busy.items())),
            exposed_us=self.exposed_us(c, script, spans),
            sent_bytes=sent,
            host_peak_bytes=script.host_peak_bytes,
        )

    def runs(self, c: int, script: Script, spans: Sequence[Span]) -> list[Event]:
        """Calls and waits on the compute lane; pieces of a call without a wait between are one."""
        events: list[Event] = []
        for action, span in zip(script.actions, spans, strict=True):
            if span.end <= span.start or not isinstance(action, (Compute, Await)):
                continue
            kind = "run" if isinstance(action, Compute) else "wait"
            what = script.calls[action.call].function
            if isinstance(action, Await):
                what = f"wait for {self.what(script, action.post, False)}"
            last = events[-1] if events else None
            call = script.calls[action.call]
            function = self.numbers[call.function]
            if (
                last is not None
                and kind == last.kind == "run"
                and (last.function, last.time) == (function, call.time)
                and last.end_us == span.start
            ):
                events.pop()
                span = Span(last.start_us, last.start_us, span.end)
            microbatch = self.maker.labels.microbatch(call.function, call.time)
            events.append(
                Event("compute", function, call.time, microbatch, span.start, span.end, what, kind)
            )
        return events

    def communications(self, c: int, script: Script) -> Iterator[Event]:
        """What this class takes part in, on its links."""
        rank = self.classes[c][0]
        for number, post, part in self.of_class.get(c, ()):
            meeting, span = self.met[number], self.timing.meetings[number]
            posting = script.postings[post]
            call = script.calls[posting.call]
            sends = meeting.kind != "move" or part == 0
            size = self.maker.machine.sent_bytes(
                meeting.kind, meeting.num_bytes, len(meeting.ranks)
            )
            yield Event(
                meeting.lane,
                self.numbers[call.function],
                call.time,
                self.maker.labels.microbatch(call.function, call.time),
                span.start,
                span.end,
                self.what(script, post, sends),
                "communication",
                size if sends else 0,
                tuple(r for r in meeting.ranks if r != rank),
            )

    def what(self, script: Script, post: int, sends: bool) -> str:
        """`all_reduce of layers.0.fc2.mm`."""
        posting = script.postings[post]
        kind = posting.communication.kind
        verb = kind if kind != "move" else ("send" if sends else "receive")
        if posting.communication.constant == EVERYONE:
            return f"{verb} of the results"
        function = script.calls[posting.call].function
        line = posting.communication.line
        return f"{verb} of {self.maker.labels.of_communication(function, line)}"

    def exposed_us(self, c: int, script: Script, spans: Sequence[Span]) -> float:
        """Waits, as far as what is waited for was ready to go: not those for slower peers."""
        total = 0.0
        for action, span in zip(script.actions, spans, strict=True):
            if isinstance(action, Await) and span.end > span.start:
                of = [self.timing.meetings[n] for n in self.of_post[c, action.post]]
                last = max(of, key=lambda s: s.end)
                total += span.end - max(span.start, min(last.ready, span.end))
        return total


def _curve(script: Script, spans: Sequence[Span]) -> tuple[tuple[float, int], ...]:
    points: list[tuple[float, int]] = []
    for action, span in zip(script.actions, spans, strict=True):
        if isinstance(action, Compute):
            stretch = (span.end - span.start) / action.us if action.us else 0.0
            for offset, level in action.curve:
                at = min(span.start + offset * stretch, span.end)
                if points and points[-1][1] == level:
                    continue
                points.append((at, level))
    return tuple(points)


def step_flops(graph: Graph) -> float:
    """The model's arithmetic of a step, without what is computed again."""
    total = 0.0
    for op in graph.operators:
        if op.phase is Phase.UPDATE or op.runs_again:
            continue
        total += operator_flops(graph, op)
    return total


def _main_dtype(graph: Graph) -> str:
    """The dtype of most arithmetic."""
    total: Counter[str] = Counter()
    for op in graph.operators:
        first = next((t for t in op.outputs if t >= 0), -1)
        if op.phase is not Phase.UPDATE and op.inputs and first >= 0:
            dtype = dtype_name(graph.tensors[first].dtype)
            total[dtype] += int(operator_flops(graph, op))
    return max(total, key=lambda d: (total[d], d)) if total else "float32"
