"""Every model family under every form of parallelism, in float64 on in-process ranks."""

from pathlib import Path

import pytest
import torch

import superscaler as ss
from superscaler.trace.axes import infer_axes
from superscaler.verify.driver import verify_program
from superscaler.verify.expected import expect
from superscaler.workload import cast, load_workload

MODELS = Path(__file__).parent / "models"
FAMILIES = (
    "mlp",
    "gpt",
    "gpt2",
    "llama",
    "bert",
    "vit",
    "swin",
    "mbart",
    "t5",
    "whisper",
    "mixtral",
    "resnet",
)
MIXED = """
stages:
- {devices: [0, 1], mesh: {tp: 2}}
- {devices: [2, 3], mesh: {dp: 2}}
microbatches: 4
splits:
- {axis: auto, dim: tp}
- {axis: batch, dim: dp}
order: 1f1b
recompute: ["**.0"]
optimizer: {split: dp, gather: use, reduce: microbatch}
"""
PLANS = (
    "data_parallel(dp=2)",
    "zero(dp=2, stage=1)",
    "zero(dp=2, stage=3)",
    "megatron(tp=2)",
    "megatron(tp=2, sequence_parallel=True)",
    "pipeline(pp=2, microbatches=4, order='1f1b')",
    "pipeline(pp=2, microbatches=4, order='gpipe')",
    "hybrid(dp=2, pp=2, microbatches=4)",
    "hybrid(tp=2, pp=2, microbatches=4)",
    MIXED,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_plan_trains_as_one_device_does(family: str) -> None:
    workload = cast(load_workload(f"{MODELS / family}.py:{family}", {}), torch.float64)
    graph = ss.trace(
        workload.step,
        workload.model,
        workload.batch,
        workload.optimizer,
        clip_grad_norm=workload.clip_grad_norm,
    )
    axes = infer_axes(graph)
    assert not [op.name for op in graph.operators if not axes.operators[op.id].has_rule]
    expected = expect(workload, 2)
    for text in PLANS:
        plan = ss.Plan.from_yaml(text) if text is MIXED else text
        program = ss.compile(graph, plan, axes=axes)
        report = verify_program(workload, program.files, expected=expected, processes=False)
        assert report.ok, f"{family} under {text}: {report.largest_error}"


@pytest.mark.dist
@pytest.mark.parametrize(
    ("family", "plan"),
    [("gpt2", "hybrid(tp=2, pp=2, microbatches=4)"), ("mbart", "zero(dp=2, stage=3)")],
)
def test_on_gloo_processes(family: str, plan: str) -> None:
    workload = load_workload(f"{MODELS / family}.py:{family}", {})
    assert ss.verify(workload, plan, steps=2).ok
