"""A simulated step: what must hold of times, memory and traffic, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from subjects import gpt

import superscaler as ss
from superscaler.cluster.machine import Device, Host
from superscaler.cluster.profile import LinkTime, Profile
from superscaler.compiler import CompiledProgram
from superscaler.errors import SuperScalerError
from superscaler.simulate.json import read_simulation, simulation_to_json
from superscaler.simulate.simulate import simulate
from superscaler.simulate.simulation import Simulation

CLUSTER = ss.Cluster.load("h100x8")
PLANS = [
    "data_parallel(dp=2)",
    "zero(dp=2, stage=3)",
    "hybrid(dp=2, tp=2, pp=2, microbatches=2, order='zb_h1')",
]


def compiled(plan: str) -> CompiledProgram:
    return ss.compile(gpt().graph, plan, CLUSTER)


def by_rank(found: Simulation) -> dict[int, tuple[object, ...]]:
    return {
        rank: (c.peak_bytes, c.resident_bytes, round(c.busy_us["compute"], 6))
        for c in found.classes
        for rank in c.ranks
    }


@pytest.mark.parametrize("plan", PLANS)
def test_folding_changes_nothing(plan: str) -> None:
    program = compiled(plan)
    folded, whole = (simulate(program, CLUSTER, fold=fold) for fold in (True, False))
    assert len(folded.classes) < len(whole.classes) == folded.world_size
    assert folded.step_us == pytest.approx(whole.step_us)
    assert by_rank(folded) == by_rank(whole)
    assert folded.link_bytes == whole.link_bytes


@pytest.mark.parametrize("plan", PLANS)
def test_a_step_adds_up(plan: str) -> None:
    found = compiled(plan).simulate()
    assert found.step_us > 0
    assert 0 <= found.bubble < 1
    assert 0 < found.model_flops_utilisation < 1
    for c in found.classes:
        assert max(size for _, size in c.memory) == c.peak_bytes > c.resident_bytes > 0
        assert sum(h.num_bytes for h in c.holders) == c.peak_bytes
        lanes: dict[str, float] = {}
        for event in c.events:  # by start: nothing overlaps on a lane
            assert event.start_us >= lanes.get(event.lane, 0.0) - 1e-6
            lanes[event.lane] = event.end_us
            assert event.end_us <= found.step_us + 1e-6


def test_it_is_read_back(tmp_path: Path) -> None:
    found = compiled(PLANS[0]).simulate()
    (tmp_path / "sim.json").write_text(simulation_to_json(found))
    assert read_simulation(tmp_path / "sim.json") == found


def test_a_cluster_that_is_too_small() -> None:
    with pytest.raises(SuperScalerError, match="the program is for 8 devices, cluster"):
        compiled(PLANS[2]).simulate(ss.Cluster(4))


def test_slower_links_take_longer() -> None:
    program = compiled("hybrid(dp=2, pp=2, microbatches=2)")
    slow = ss.Cluster.load("a100x16")
    assert program.simulate(slow).exposed_us > program.simulate(CLUSTER).exposed_us


def test_links_that_are_busy_for_a_part_of_the_time_leave_cores_to_ranks() -> None:
    """Four ranks on two cores, with a profile that says how much processors have to do."""
    cpu = ss.Cluster(4, Device("cpu", {"float32": 0.05}, 8.0, 10.0, 5.0), host=Host(2))
    program = ss.compile(gpt().graph, "hybrid(tp=2, pp=2, microbatches=2)", cpu)
    steps = []
    for busy in (0.25, 1.0):
        times = (LinkTime("all_reduce", cpu.link_name([0, 1]), 2, 1e3, 3e3, busy),)
        steps.append(program.simulate(cpu, Profile("cpu", (), times)).step_us)
    assert steps[0] < 0.95 * steps[1]


def test_devices_that_a_plan_leaves_out_wait_for_the_results(tmp_path: Path) -> None:
    stages = "stages: [{devices: [0]}, {devices: [5]}]\nmicrobatches: 2\norder: 1f1b\n"
    program = ss.compile(gpt().graph, ss.Plan.from_yaml(stages), CLUSTER)
    found = program.simulate()
    idle = next(c for c in found.classes if 1 in c.ranks)
    assert idle.ranks == (1, 2, 3, 4)
    assert [e.what for e in idle.events if e.lane == "compute"] == [
        "wait for broadcast of the results"
    ]
    assert (idle.peak_bytes, idle.busy_us.get("compute", 0.0)) == (0, 0.0)
    (tmp_path / "gaps.json").write_text(simulation_to_json(found))
    assert read_simulation(tmp_path / "gaps.json").classes == found.classes
