"""What simulated steps take, hold and send, as text: a plan that gets worse is seen in the diff.

Plans stay exact when an operator runs on another rank than it should, or a tensor is sent that
need not be; only this shows. Where the new numbers are meant: pytest --update-golden.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from subjects import subject

import superscaler as ss

GOLDEN = Path(__file__).parent.parent / "golden" / "predictions"
CLUSTER = ss.Cluster.load("h100x8")
FAMILIES = ("gpt", "llama", "mixtral", "swin", "mbart", "t5")
PLANS = (
    "zero(dp=2, stage=3)",
    "megatron(tp=2, sequence_parallel=True)",
    "pipeline(pp=2, microbatches=4, order='1f1b')",
    "hybrid(dp=2, pp=2, microbatches=2, order='zb_h1')",
    "hybrid(tp=2, pp=2, microbatches=2, order='1f1b')",
)


def predicted(family: str, plan: str) -> str:
    """The step, and a line per class: us in kernels, bytes at most, bytes sent."""
    toy = subject(family)
    found = ss.compile(toy.graph, plan, CLUSTER, axes=toy.axes).simulate()
    lines = [f"{plan}: {found.step_us:.3g} us"]
    for c in found.classes:
        busy, sent = c.busy_us.get("compute", 0.0), sum(c.sent_bytes.values())
        lines.append(f"  {c.name}: {busy:.3g} us, {c.peak_bytes} bytes, {sent} sent")
    return "\n".join(lines)


@pytest.mark.skipif(
    not torch.__version__.startswith("2.13."),
    reason="the numbers are of torch 2.13; another one's kernels may copy more, or less",
)
@pytest.mark.parametrize("family", FAMILIES)
def test_predictions(family: str, update_golden: bool) -> None:
    text = "\n".join(predicted(family, plan) for plan in PLANS) + "\n"
    path = GOLDEN / f"{family}.txt"
    if update_golden:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
