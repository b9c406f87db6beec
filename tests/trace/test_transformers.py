"""Unchanged `transformers` models agree with plain PyTorch in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from compare import compare

from superscaler.graph.graph import Graph
from superscaler.workload import cast, load_workload

MODELS = Path(__file__).parents[1] / "models"
NAMES = ["llama", "gpt2", "bert", "vit", "swin", "mbart", "t5", "whisper", "mixtral", "resnet"]


def _compare(name: str) -> Graph:
    small = {} if name in ("swin", "resnet") else {"layers": 2}
    workload = cast(load_workload(f"{MODELS / name}.py:{name}", small), torch.float64)
    return compare(workload.step, workload.model, workload.batch)


@pytest.mark.parametrize("name", NAMES)
def test_family(name: str) -> None:
    graph = _compare(name)
    for op in graph.operators:
        is_constant = op.target in ("aten.full.default", "superscaler.update")
        assert op.source or is_constant, f"{op.name} has no source line"
        assert op.target.split(".")[0] in ("aten", "superscaler"), op.target


def test_places_in_llama() -> None:
    graph = _compare("llama")
    by_name = {op.name: op for op in graph.operators}
    forward = by_name["model.layers.0.self_attn.q_proj.mm"]
    assert forward.module == "model.layers.0.self_attn.q_proj"
    assert forward.source.startswith("modeling_llama.py:")
    backward = by_name["model.layers.0.self_attn.q_proj.mm.bwd"]
    assert graph.operators[backward.forward].module == forward.module
    assert backward.source == forward.source
    rotary = by_name["model.layers.0.self_attn.cat"]
    assert rotary.source.endswith("in rotate_half")
    assert rotary.module == "model.layers.0.self_attn"
