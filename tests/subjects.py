"""Toy workloads, traced once for all tests that compile them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch

import superscaler as ss
from superscaler.compiler import CompiledProgram
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.plan import Plan
from superscaler.trace.axes import infer_axes
from superscaler.transform.partition import Partition
from superscaler.verify import Expected, Report, expect, verify_program
from superscaler.workload import cast

MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Subject:
    """A workload with its graph and its axes."""

    workload: ss.Workload
    graph: Graph
    axes: Axes

    @cached_property
    def expected(self) -> Expected:
        return expect(self.workload, steps=2)

    def compile(self, plan: Plan | Partition | str) -> CompiledProgram:
        return ss.compile(self.graph, plan, axes=self.axes)

    def check(self, files: dict[str, str]) -> Report:
        """The ranks of a program, as threads, against the untouched model."""
        return verify_program(
            self.workload, files, expected=self.expected, processes=False, timeout=20
        )


@cache
def subject(name: str, **settings: Any) -> Subject:
    """A workload of `tests/models`, in float64."""
    return traced(ss.load_workload(f"{MODELS / name}.py:{name}", settings))


def traced(workload: ss.Workload) -> Subject:
    """A workload in float64, with its graph."""
    workload = cast(workload, torch.float64)
    graph = ss.trace(
        workload.step,
        workload.model,
        workload.batch,
        workload.optimizer,
        clip_grad_norm=workload.clip_grad_norm,
    )
    return Subject(workload, graph, infer_axes(graph))


def mlp(**settings: Any) -> Subject:
    return subject("mlp", **{"layers": 2, "hidden": 8, **settings})


def gpt(**settings: Any) -> Subject:
    return subject("gpt", **{"layers": 2, "hidden": 16, "heads": 2, "seq": 8, **settings})
