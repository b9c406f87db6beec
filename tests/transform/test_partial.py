"""Partial sums: linear operators take them as they are, so that less is reduced, and later."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
from subjects import MODELS, subject, traced

import superscaler as ss
from superscaler import policies
from superscaler.compiler import partition_of
from superscaler.plan import Plan
from superscaler.transform.layout import input_layout, output_layout
from superscaler.transform.partial import propagate_partial
from superscaler.transform.partition import VALUE


@pytest.mark.parametrize(
    "plan",
    [
        policies.data_parallel(dp=2),
        policies.hybrid(dp=2, microbatches=2),
        policies.hybrid(dp=2, zero=2, microbatches=2),
    ],
)
def test_gradients_of_a_bias_table_are_reduced_as_tables(plan: Plan) -> None:
    """Each replica adds its gradients of all pairs of positions up, from zeros, in a table."""
    of = subject("swin")
    after = propagate_partial(partition_of(of.graph, plan, of.axes))
    tables = [op for op in of.graph.operators if op.target.startswith("aten.index_put")]
    assert tables
    for op in tables:
        values = len(op.inputs) - 1
        assert VALUE in input_layout(after, op.id, values).roles
        assert VALUE not in input_layout(after, op.id, 0).roles
        made = of.graph.producer[op.inputs[values]]
        wanted, found = input_layout(after, op.id, values), output_layout(after, *made)
        assert wanted.roles[-1] == found.roles[-1] == VALUE


def test_casts_before_the_table_do_not_make_it_late() -> None:
    """Under autocast the gradients of the pairs are cast to twice as many bytes before they are
    added up in the table."""
    workload = ss.load_workload(f"{MODELS}/swin.py:swin", {})

    def step(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return workload.step(model, batch)

    graph = ss.trace(step, workload.model, workload.batch, workload.optimizer)
    program = ss.compile(graph, policies.data_parallel(dp=2)).program
    shapes = [graph.tensors[c.tensor].shape for c in program.conversions]
    window = 16
    assert (49, 4) in shapes
    assert [s for s in shapes if s[-2:] == (window, window)] == []


ROWS, WIDTH = 64, 16


def looked_up(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sums of the batch by class, of which each sample takes its own to a frozen product."""
    h = model[0](batch["x"])
    sums = torch.zeros(6, WIDTH, dtype=h.dtype).index_add(0, batch["class"], h)
    return (sums[batch["class"]] @ model[1].weight.t()).mean() + h.square().mean()


def padded(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sums of the batch, made larger before a product that makes less of them."""
    h = model[0](batch["x"])
    wide = torch.nn.functional.pad(h.view(-1, 8, WIDTH).sum(0), (0, 3 * WIDTH))
    return (wide @ model[2].weight.t()).square().mean() + h.square().mean()


@pytest.mark.parametrize(("step", "most"), [(looked_up, 6 * WIDTH), (padded, 8 * WIDTH)])
def test_sums_that_are_made_larger_are_reduced_before(step: Any, most: int) -> None:
    """Where readers are split by batch, or are products, they do not take partial sums."""
    torch.manual_seed(0)
    widths = ((WIDTH, WIDTH), (WIDTH, 1), (4 * WIDTH, 2))
    model = torch.nn.Sequential(*(torch.nn.Linear(a, b, bias=False) for a, b in widths))
    model[1].requires_grad_(False)
    model[2].requires_grad_(False)
    batch = {"x": torch.randn(ROWS, WIDTH), "class": torch.arange(ROWS) % 6}
    of = traced(ss.Workload(step, model, lambda p: torch.optim.SGD(p, lr=0.1), batch))
    compiled = of.compile("data_parallel(dp=2)")
    assert of.check(compiled.files).ok
    moved = [prod(of.graph.tensors[c.tensor].shape) for c in compiled.program.conversions]
    assert max(moved) <= max(most, WIDTH * WIDTH)
