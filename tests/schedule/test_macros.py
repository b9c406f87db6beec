"""Orders against the tasks of a program: every task is there, and contradictions are named."""

from itertools import product
from types import SimpleNamespace

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from subjects import gpt, traced
from torch import nn

import superscaler as ss
from superscaler.errors import ScheduleError
from superscaler.plan import Plan
from superscaler.schedule.macros import sequence_edges

STAGES = "stages: [{devices: [0]}, {devices: [1]}]\n"


def explicit(*lines: str, microbatches: int = 2, extra: str = "") -> Plan:
    order = "order: [" + ", ".join(lines) + "]"
    return Plan.from_yaml(f"{STAGES}microbatches: {microbatches}\n{order}\n{extra}")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["F0.0 BW0.0 BW0.1", "F1.0 F1.1 BW1.0 BW1.1"], "order, line 1: F0.1 is missing"),
        (["F0.0 F0.1 BW0.0 BW0.1"], "order: F1.0 is missing; give every task once"),
        (["F0.0 F0.1 BW0.0 BW0.1", "F1.0 F1.1 BW1.0"], "order, line 2: BW1.1 is missing"),
        (["F0.0 F0.1 W0.0 W0.1", "F1.0 W1.0 F1.1 W1.1"], "order, line 2: B1.0 is missing"),
        (["F0.0 F0.1 W0.0 W0.1", "F1.0 B1.0 F1.1 B1.1"], "order, line 2: W1.0 is missing"),
    ],
)
def test_what_is_missing(lines: list[str], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        ss.compile(gpt().graph, explicit(*lines))


def test_devices_that_wait_for_each_other() -> None:
    """Device 0 wants W0.0 before F0.1, device 1 F1.1 before B1.0: neither can."""
    plan = explicit("F0.0 W0.0 F0.1 W0.1", "F1.0 F1.1 B1.0 B1.1 W1.0 W1.1")
    with pytest.raises(ScheduleError, match="these tasks wait for each other") as caught:
        ss.compile(gpt().graph, plan)
    assert "(order, line 1: W0.0 F0.1)" in str(caught.value)
    assert "(order, line 2: F1.1 B1.0)" in str(caught.value)
    assert "(data)" in str(caught.value)


def test_an_order_without_microbatches() -> None:
    assert ss.compile(gpt().graph, explicit("F0.0 W0.0", "F1.0 B1.0 W1.0", microbatches=1))
    with pytest.raises(ScheduleError, match=r"\(order, line 2: BW1.0 F1.0\)"):
        ss.compile(gpt().graph, explicit("F0.0 BW0.0", "BW1.0 F1.0", microbatches=1))


def test_weight_gradients_that_are_not_apart() -> None:
    order = "[F0.0 F0.1 W0.0 W0.1, F1.0 B1.0 W1.0 F1.1 B1.1 W1.1]"
    plan = Plan.from_yaml(f"{STAGES}microbatches: 2\norder: {order}\nbackward: fused")
    with pytest.raises(ScheduleError, match=r"line 1: there is no W0.0, since .* backward: fused"):
        ss.compile(gpt().graph, plan)


def test_known_orders_skip_weight_gradients_that_are_not_apart() -> None:
    plans = [
        Plan.from_yaml(f"{STAGES}microbatches: 4\norder: {order}\nbackward: fused")
        for order in ("zb_h1", "1f1b")
    ]
    zero_bubble, plain = (gpt().compile(plan) for plan in plans)
    assert zero_bubble.files["program_0.py"] == plain.files["program_0.py"]
    assert gpt().check(zero_bubble.files).ok


@pytest.mark.parametrize(
    "order", ["zb_h1", "[F0.0 F0.1 W0.0 W0.1, F1.0 F1.1 B1.0 W1.0 B1.1, F2.0 BW2.0 F2.1 BW2.1]"]
)
def test_a_stage_without_weights(order: str) -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 1))
    subject = traced(
        ss.Workload(
            step=lambda model, batch: model(batch).mean(),
            model=model,
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
            batch=torch.randn(4, 6),
        )
    )
    stages = ", ".join(f"{{devices: [{i}], modules: ['{i}']}}" for i in range(3))
    plan = Plan.from_yaml(f"stages: [{stages}]\nmicrobatches: 2\norder: {order}\n")
    assert subject.check(subject.compile(plan).files).ok


def test_a_second_way_through_the_devices() -> None:
    with pytest.raises(ScheduleError, match=r"line 1: F0.1'1 takes a second way"):
        ss.compile(gpt().graph, explicit('"F0.0 F0.1\'1 BW0.0 BW0.1"'))


@given(st.data())
def test_edges_that_follow_from_others_are_left_out(data: st.DataObject) -> None:
    """Of two macro tasks in turn, all tasks that share a device are in order, by few edges."""
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=3), label="macro tasks")
    labels = [m for m, size in enumerate(sizes) for _ in range(size)]
    ranks = st.sets(st.integers(0, 2), min_size=1).map(sorted).map(tuple)
    tasks = [(m, 0, data.draw(ranks, label="devices")) for m in labels]
    before = [
        {b for b in range(t) if labels[b] == labels[t] and data.draw(st.booleans(), label="edge")}
        for t in range(len(tasks))
    ]
    segments = [SimpleNamespace(label=f"forward_{m}") for m in range(len(sizes))]
    line = tuple((s.label, 0) for s in segments)
    found = sequence_edges(SimpleNamespace(sequences=(line,)), segments, tasks, before)

    inside = {(b, t) for t, befores in enumerate(before) for b in befores}
    least = nx.transitive_closure_dag(nx.DiGraph([*inside, *((x, y) for y, x in found)]))
    wanted = {
        (x, y)
        for x, y in product(range(len(tasks)), repeat=2)
        if labels[y] == labels[x] + 1 and set(tasks[x][2]) & set(tasks[y][2])
    }
    assert {(x, y) for y, x in found} <= wanted
    assert wanted <= set(least.edges)


def test_a_chain_waits_by_one_edge() -> None:
    tasks = [(m, 0, (0,)) for m in (0, 0, 0, 1, 1, 1)]
    before = [set(), {0}, {1}, set(), {3}, {4}]
    segments = [SimpleNamespace(label="forward_0"), SimpleNamespace(label="forward_1")]
    sequences = ((("forward_0", 0), ("forward_1", 0)),)
    found = sequence_edges(SimpleNamespace(sequences=sequences), segments, tasks, before)
    assert found == {(3, 2): "order, line 1: F0.0 F1.0"}
