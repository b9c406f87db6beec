"""A recorded call against the same lines run for real: what they allocate, free and wait for."""

from __future__ import annotations

import torch

from superscaler.emit.function import Function
from superscaler.runtime.storages import StorageTracker
from superscaler.simulate.recording.constants import Group, Peer
from superscaler.simulate.recording.kernels import Kernels
from superscaler.simulate.recording.record import (
    EndSends,
    Form,
    Free,
    Post,
    Record,
    Take,
    Wait,
    contiguous,
)
from superscaler.simulate.recording.recorder import Recorder, compiled

FLOAT = torch.float32


def function(*lines: tuple[str, str, str], reads: str = "", writes: str = "") -> Function:
    """Lines as (text, variables assigned, variables used)."""
    made = Function("", [(v, v) for v in reads.split()], [(v, v) for v in writes.split()])
    for text, assigns, uses in lines:
        made.add(text, tuple(assigns.split()), tuple(uses.split()))
    return made


def recorded(
    made: Function, *given: Form, constants: dict[str, object] | None = None, nccl: bool = False
) -> Record:
    recorder = Recorder(0, Kernels(nccl, lambda work: 1.0))
    return recorder.record(compiled(made), given, constants or {}, lambda gradients: None)


def moves(record: Record) -> list[str]:
    """Takes as +bytes, frees as -storage, communication as a word."""
    words = {Post: "post", Wait: "wait", EndSends: "end"}
    found = []
    for step in record.steps:
        if isinstance(step, Take):
            found.append(f"+{step.num_bytes}")
        elif isinstance(step, Free):
            found.append(f"-{step.storage}")
        elif type(step) in words:
            found.append(words[type(step)])
    return found


def test_views_are_free_and_keep_their_base() -> None:
    made = function(
        ("b = aten.mul.Tensor(a, a)", "b", "a"),
        ("c = aten.t.default(b)", "c", "b"),
        ("d = aten.reshape.default(c, [32])", "d", "c"),
        reads="a",
        writes="d",
    )
    record = recorded(made, contiguous((4, 8), FLOAT, 0))
    # `a` goes after its line; `b` lives on in `c`, whose reshape has to copy.
    assert moves(record) == ["+128", "-0", "+128", "-1"]
    assert [k.target for k in record.kernels] == [
        "aten.mul.Tensor",
        "aten.t.default",
        "aten.clone.default",
        "aten._unsafe_view.default",
    ]
    assert record.outputs[0].form == contiguous((32,), FLOAT, 2)


def test_a_value_that_is_returned_shares_what_it_was_given() -> None:
    made = function(("b = aten.t.default(a)", "b", "a"), reads="a", writes="b")
    record = recorded(made, contiguous((4, 8), FLOAT, 0))
    assert moves(record) == []
    assert record.outputs[0].form == Form((8, 4), (1, 8), FLOAT, 0, 0, 128)


def test_values_in_one_storage_are_given_back_once() -> None:
    made = function(
        ("c = aten.add.Tensor(a, b)", "c", "a b"),
        ("d = aten.add.Tensor(c, a)", "d", "c a"),
        reads="a b",
        writes="d",
    )
    whole = contiguous((8,), FLOAT, 0)
    halves = [Form((4,), (1,), FLOAT, at, 0, whole.storage_bytes) for at in (0, 4)]
    assert moves(recorded(made, *halves)) == ["+16", "+16", "-0", "-1"]


def test_the_same_lines_on_a_cpu_allocate_and_free_alike() -> None:
    made = function(
        ("h = aten.mm.default(x, w)", "h", "x w"),
        ("g = aten.gelu.default(h)", "g", "h"),
        ("n, mean, rstd = aten.native_layer_norm.default(g, [6], None, None, 1e-5)",
         "n mean rstd", "g"),
        ("p = aten.permute.default(n, [1, 0])", "p", "n"),
        ("q = aten.reshape.default(p, [3, 8])", "q", "p"),
        ("y = aten.gelu_backward.default(n, h)", "y", "n h"),
        ("aten.add_.Tensor(y, g)", "", "y g"),
        reads="x w",
        writes="q y mean",
    )  # fmt: skip
    forms = [contiguous((4, 8), FLOAT, 0), contiguous((8, 6), FLOAT, 1)]
    record = recorded(made, *forms)
    watched = _Watched()
    values = {0: torch.randn(4, 8), 1: torch.randn(8, 6)}
    watched.see(list(values.values()))
    watched.moves.clear()
    context = type("Context", (), {"at": lambda self, line: None})()
    with watched, torch.no_grad():
        outputs = compiled(made)(context, values)
        found = list(watched.moves)
    assert moves(record) == found
    assert [o.form.stride for o in record.outputs] == [tuple(o.stride()) for o in outputs]


class _Watched(StorageTracker):  # type: ignore[no-untyped-call]
    """Takes and frees on the CPU, with the numbers that a record has."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[str] = []
        self._numbers: dict[int, int] = {}
        self._count = 0

    def came(self, number: int, num_bytes: int) -> None:
        self._numbers[number] = self._count
        self._count += 1
        self.moves.append(f"+{num_bytes}")

    def went(self, number: int) -> None:
        self.moves.append(f"-{self._numbers.pop(number)}")


def test_a_collective_keeps_its_buffers_until_the_wait() -> None:
    made = function(
        ('b = ctx.all_reduce(a, "group0")', "b", "a"),
        ("c = aten.mul.Tensor(d, d)", "c", "d"),
        ("b = ctx.wait(b)", "b", "b"),
        ("e = aten.add.Tensor(b, c)", "e", "b c"),
        reads="a d",
        writes="e",
    )
    forms = [contiguous((4,), FLOAT, 0), contiguous((4,), FLOAT, 1)]
    record = recorded(made, *forms, constants={"group0": Group.of((0, 1), "group0")})
    assert moves(record) == ["+16", "post", "-0", "+16", "-1", "wait", "+16", "-2", "-3"]
    assert record.communications[0].kind == "all_reduce"
    assert record.communications[0].num_bytes == 16
    assert record.communications[0].constant == "group0"


def test_what_is_returned_under_way_arrives_when_it_is_waited_for() -> None:
    made = function(
        ('b = ctx.all_gather(a, "group0", (4,), 0, (8,))', "b", "a"), reads="a", writes="b"
    )
    form = contiguous((4,), FLOAT, 0)
    record = recorded(made, form, constants={"group0": Group.of((0, 1), "group0")})
    assert moves(record) == ["+32", "post"]  # the work keeps `a`, which it reads
    (arrival,) = record.arrivals
    assert arrival.holds == (0, 1)
    assert [type(s) for s in arrival.steps if not isinstance(s, Free)][:1] == [Wait]
    assert record.outputs[0].form.shape == (8,)


def test_coalesced_values_arrive_together() -> None:
    made = function(
        ('b, c = ctx.all_reduce_coalesced([a, d], "group0")', "b c", "a d"),
        reads="a d",
        writes="b c",
    )
    forms = [contiguous((4,), FLOAT, 0), contiguous((2, 2), FLOAT, 1)]
    record = recorded(made, *forms, constants={"group0": Group.of((0, 1), "group0")})
    (arrival,) = record.arrivals
    assert arrival.outputs == (0, 1)
    assert [o.form.storage for o in record.outputs] == [2, 2]
    assert moves(record) == ["+32", "post", "-0", "-1"]


def test_sends_are_kept_on_gloo_and_given_back_by_the_next_transfer_on_nccl() -> None:
    made = function(
        ("b = aten.mul.Tensor(a, a)", "b", "a"),
        ('ctx.send(b, "to0")', "", "b"),
        ('ctx.send(a, "to0")', "", "a"),
        reads="a",
    )
    form = contiguous((4,), FLOAT, 0)
    constants = {"to0": Peer.of(1, "to0")}
    on_gloo = recorded(made, form, constants=constants)
    assert moves(on_gloo) == ["+16", "post", "post"]
    assert on_gloo.sent == (1, 0)
    on_nccl = recorded(made, form, constants=constants, nccl=True)
    assert moves(on_nccl) == ["+512", "end", "post", "-1", "end", "post"]  # blocks of 512 bytes
    assert on_nccl.sent == (0,)


def test_a_message_to_itself_is_no_communication() -> None:
    made = function(
        ('ctx.send(a, "to0")', "", "a"),
        ('b = ctx.recv("from0", (4,), torch.float32)', "b", ""),
        reads="a",
        writes="b",
    )
    constants = {"to0": Peer.of(0, "to0"), "from0": Peer.of(0, "from0")}
    record = recorded(made, contiguous((4,), FLOAT, 0), constants=constants)
    assert moves(record) == []
    assert record.outputs[0].form.storage == 0
