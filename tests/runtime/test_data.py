"""What a compiled program is given as a batch, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from subjects import traced
from torch import nn

import superscaler as ss
from superscaler.runtime.data import BatchPlacer
from superscaler.runtime.failures import BatchError
from superscaler.runtime.program import load_rank


def placer() -> BatchPlacer:
    """Of a program whose batch has a number and a text in it."""
    subject = traced(
        ss.Workload(
            step=lambda model, batch: batch["scale"] * model(batch["x"]).square().mean(),
            model=nn.Linear(4, 4),
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
            batch={"x": torch.zeros(2, 4), "scale": 2.0, "name": "train"},
        )
    )
    program = load_rank(subject.compile("hybrid()").files, 0)
    return BatchPlacer(program.manifest["batch"], program.inputs, torch.device("cpu"))


def batch(**changes: object) -> dict[str, object]:
    return {"x": torch.ones(2, 4, dtype=torch.float64), "scale": 2.0, "name": "train"} | changes


def test_numbers_and_texts_are_those_it_was_compiled_for() -> None:
    given = placer()
    assert len(given.place(batch())) == 1
    with pytest.raises(
        BatchError, match=r"scale is 3\.0, the program was compiled for 2\.0, which"
    ):
        given.place(batch(scale=3.0))
    with pytest.raises(BatchError, match="name is 'test', the program was compiled for 'train'"):
        given.place(batch(name="test"))
