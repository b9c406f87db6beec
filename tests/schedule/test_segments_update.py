"""A parameter's update comes after what reads a view of it, also where nothing else orders them."""

from subjects import subject

from superscaler.compiler import partition_of
from superscaler.policies import parse_plan
from superscaler.schedule.build import build_schedule
from superscaler.schedule.segments import OVERWRITTEN, update_edges
from superscaler.transform.partial import propagate_partial
from superscaler.transform.views import delay_views


def test_updates_wait_for_readers_of_views() -> None:
    of = subject("mlp", layers=2, hidden=8)
    plan = parse_plan("data_parallel(dp=1)")
    partition = propagate_partial(delay_views(partition_of(of.graph, plan, of.axes)))
    tasks, timed = build_schedule(partition)
    assert tasks
    assert timed
    waits = {(e.producer, e.reader) for e in update_edges(partition) if e.position == OVERWRITTEN}
    products = [op for op in of.graph.operators if op.target == "aten.mm.default"]
    forward = [op for op in products if op.phase.value == "forward"]
    assert forward
    for op in forward:
        updates = [r for p, r in waits if p == op.id]
        assert len(updates) == 1, op.name
