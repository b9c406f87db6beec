"""A 12-layer GPT trains as one device does in orders with B and W apart and several stages a
device."""

from functools import cache
from pathlib import Path

import pytest
import torch

import superscaler as ss
from superscaler.compiler import CompiledProgram
from superscaler.graph.graph import Graph
from superscaler.plan import ORDERS as NAMES
from superscaler.plan import SPLIT_ORDERS, TWO_WAY_ORDERS, V_ORDERS
from superscaler.schedule import orders
from superscaler.verify import Expected, expect, verify_program
from superscaler.workload import Workload, cast, load_workload

EXAMPLE = Path(__file__).parents[1] / "examples" / "gpt.py"
SMALL = {"layers": 12, "hidden": 32, "heads": 2, "seq": 16, "batch": 8}
FOUR = "pp=4, microbatches=8"
PLANS = [
    f"{FOUR}, order='zb_h1'",
    f"{FOUR}, order='zb_h2'",
    f"{FOUR}, order='zb_v'",
    f"{FOUR}, order='v_half'",
    f"{FOUR}, order='v_min'",
    f"{FOUR}, order='interleaved', stages_per_device=3, recompute='layers.*.fc1 layers.*.fc2'",
    f"{FOUR}, order='breadth_first', stages_per_device=2, placement='v'",
    "pp=2, microbatches=2, order='zb_v', dp=2, zero=3, recompute='layers.*'",
    "pp=2, microbatches=2, order='zb_h1', dp=2, tp=2, zero=2, recompute='layers.1'",
]
STAGES = "\n".join(f"- {{devices: [{s}]}}" for s in range(4))
TEXT = """
- F0.0 F0.1 F0.2 F0.3 W0.0 F0.4 W0.1 F0.5 W0.2 F0.6 W0.3 F0.7 W0.4 W0.5 W0.6 W0.7
- F1.0 F1.1 F1.2 B1.0 W1.0 F1.3 B1.1 F1.4 B1.2 F1.5 B1.3 F1.6 B1.4 F1.7 B1.5 B1.6 B1.7 W1.7 W1.6 W1.5 W1.4 W1.3 W1.2 W1.1
- F2.0 F2.1 B2.0 F2.2 B2.1 F2.3 B2.2 F2.4 BW2.3 F2.5 BW2.4 F2.6 BW2.5 F2.7 BW2.6 BW2.7 W2.0 W2.1 W2.2
- F3.0 B3.0 F3.1 B3.1 F3.2 B3.2 F3.3 B3.3 F3.4 B3.4 F3.5 B3.5 F3.6 B3.6 F3.7 B3.7 W3.0 W3.1 W3.2 W3.3 W3.4 W3.5 W3.6 W3.7
"""  # noqa: E501
EXPLICIT = f"stages:\n{STAGES}\nmicrobatches: 8\norder:{TEXT}"


@cache
def twelve_layers() -> tuple[Workload, Graph, Expected]:
    workload = cast(load_workload(f"{EXAMPLE}:workload", SMALL), torch.float64)
    graph = ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)
    return workload, graph, expect(workload, steps=2)


@pytest.mark.parametrize("plan", PLANS)
def test_twelve_layers(plan: str) -> None:
    workload, graph, expected = twelve_layers()
    program = ss.compile(graph, f"hybrid({plan})")
    assert verify_program(workload, program.files, expected=expected, processes=False).ok


def test_an_explicit_order() -> None:
    workload, graph, expected = twelve_layers()
    program = ss.compile(graph, ss.Plan.from_yaml(EXPLICIT))
    assert ran(program, 1) == TEXT.splitlines()[2][2:].replace("1.", "")
    assert verify_program(workload, program.files, expected=expected, processes=False).ok


def ran(program: CompiledProgram, rank: int) -> str:
    """A rank's tasks in turn, by kind and microbatch."""
    tasks = program.program.tasks
    shown = []
    for number in program.program.timed.order:
        task = tasks.tasks[number]
        label = tasks.segments[task.segment].label
        if rank in task.devices and label.startswith(("forward", "backward", "weight")):
            shown.append(f"{label[0].upper()}{task.time[0]}")
    return " ".join(shown)


@pytest.mark.dist
@pytest.mark.parametrize("plan", [EXPLICIT, "pipeline(pp=4, microbatches=8, order='zb_v')"])
def test_on_gloo_processes(plan: str) -> None:
    workload = load_workload(f"{EXAMPLE}:workload", SMALL)
    chosen = ss.Plan.from_yaml(plan) if plan is EXPLICIT else plan
    assert ss.verify(workload, chosen, steps=1).ok


def test_plans_know_the_orders_that_there_are() -> None:
    assert set(NAMES) == {*orders.ORDERS, *orders.TWO_WAY, "nf1b", "auto", "none"}
    assert set(TWO_WAY_ORDERS) == set(orders.TWO_WAY)
    for name in orders.ORDERS:
        devices = [0, 1, 1, 0] if name in V_ORDERS else [0, 1]
        text = str(orders.ORDERS[name](devices, 2))
        assert ("W" in text.replace("BW", "")) == (name in SPLIT_ORDERS)
