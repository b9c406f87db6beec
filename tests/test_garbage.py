"""Collections are put off while a stage runs, and only then."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import nn

from superscaler.compiler import CompiledProgram, compile
from superscaler.garbage import no_collections
from superscaler.trace import trace


def test_collections_go_on_after_a_stage() -> None:
    with no_collections():
        assert not gc.isenabled()
        with no_collections():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collections_go_on_after_an_error() -> None:
    with pytest.raises(KeyError), no_collections():
        raise KeyError("x")
    assert gc.isenabled()


def test_collections_that_the_user_has_turned_off_stay_off() -> None:
    gc.disable()
    try:
        with no_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_no_stage_is_interrupted() -> None:
    model = nn.Linear(8, 8)

    def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(batch["x"]).square().mean()

    def compiled() -> CompiledProgram:
        graph = trace(step, model, {"x": torch.randn(4, 8)}, torch.optim.SGD)
        return compile(graph, "hybrid(dp=2)")

    compiled().simulate()  # imports
    made = compiled()
    assert num_collections(made.simulate) < 1000  # of 3,945: the plan's text
    assert num_collections(compiled) < 1000  # of 24,517: the optimizer's probe, axes


def num_collections(action: Callable[[], object]) -> int:
    """How often garbage is looked for meanwhile, if it is wherever that is allowed."""
    phases: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        phases.append(phase)

    outer = gc.get_threshold()
    gc.callbacks.append(note)
    gc.set_threshold(1)
    try:
        action()
    finally:
        gc.set_threshold(*outer)
        gc.callbacks.remove(note)
    return phases.count("start")
