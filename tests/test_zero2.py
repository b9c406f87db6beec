"""ZeRO 2: gradients are reduced at each microbatch, to the replica that updates them."""

from __future__ import annotations

from functools import cache

import pytest
from subjects import Subject, gpt, mlp

import superscaler as ss
from superscaler.compiler import CompiledProgram
from superscaler.emit import buckets
from superscaler.runtime import load_ranks
from superscaler.simulate.simulation import RankClass


def model() -> Subject:
    return gpt(layers=3, batch=16)


@cache
def program(text: str) -> CompiledProgram:
    return ss.compile(model().graph, text, ss.Cluster.load("v100-32g-8x4"), axes=model().axes)


def first(text: str) -> RankClass:
    return program(text).simulate().classes[0]


PLANS = [
    "hybrid(dp=2, zero=2, microbatches=4)",
    "hybrid(dp=2, tp=2, zero=2, microbatches=4, sequence_parallel=True)",
    "hybrid(dp=2, pp=2, zero=2, microbatches=4, order='zb_h1')",
    "hybrid(dp=2, pp=2, zero=2, microbatches=4, order='auto')",
    "coshard(hybrid(dp=2, zero=2, microbatches=4), parts=2)",
    "offload(hybrid(dp=2, zero=2, microbatches=2), activations='layers.*', optimizer=True)",
    "hybrid(dp=2, zero=2, microbatches=4, recompute='layers.*')",
]


@pytest.mark.parametrize("text", PLANS)
def test_it_is_exact(text: str) -> None:
    assert model().check(program(text).files).ok


def test_each_microbatch_sends_its_gradients() -> None:
    sent = {
        (zero, count): first(f"hybrid(dp=2, zero={zero}, microbatches={count})").sent_bytes[
            "nvlink"
        ]
        for zero in (1, 2)
        for count in (1, 4)
    }
    assert sent[1, 4] == pytest.approx(sent[1, 1], rel=0.02)
    gradients = sum(p.nbytes for p in model().workload.model.parameters()) / 2
    assert sent[2, 1] == pytest.approx(sent[1, 1], rel=0.02)
    assert sent[2, 4] - sent[1, 4] == pytest.approx(3 * gradients, rel=0.1)


def test_no_replica_keeps_whole_gradients_between_microbatches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buckets, "SMALLEST_BYTES", 1 << 12)  # the model is small
    cluster = ss.Cluster.load("v100-32g-8x4")
    peaks = [
        ss.compile(model().graph, f"hybrid(dp=4, zero={zero}, microbatches=4)", cluster)
        .simulate()
        .peak_bytes
        for zero in (1, 2)
    ]
    gradients = sum(p.nbytes for p in model().workload.model.parameters())
    assert peaks[0] - peaks[1] > 0.3 * gradients


def test_what_cannot_be_reduced_at_each_microbatch_is_said() -> None:
    """The parts of co-shard are added up before they are reduced."""
    plain, parts = (program(text).program.notes for text in (PLANS[0], PLANS[4]))
    assert not any("reduced once a step" in note for note in plain)
    assert any(
        note.startswith("reduced once a step, not at each microbatch: ")
        and "gradients, which other stages or parts in time read too: layers.0.attention" in note
        for note in parts
    )


@pytest.mark.parametrize("subject", [mlp(clip=0.1, layers=6, hidden=64), gpt(tied=True, batch=8)])
def test_gradients_with_other_readers_than_updates(subject: Subject) -> None:
    """Clipping reads gradients where they are; of a tied head's one is read on another stage."""
    program = subject.compile("hybrid(dp=2, pp=2, zero=2, microbatches=4)")
    assert program.program.notes == ()
    assert subject.check(program.files).ok


def test_shards_lie_along_what_tensor_parallelism_leaves_whole() -> None:
    """So one all-gather puts a weight's shards together, and none has to be sorted."""
    made = program("hybrid(dp=2, tp=2, zero=3)")
    held = {p.name: p.shape for p in load_ranks(made.files)[0].parameters}
    for name in ("layers.0.fc1.weight", "layers.0.fc2.weight"):
        whole = made.program.partition.graph.by_name[name].shape
        assert held[name] == tuple(size // 2 for size in whole)
    assert made.files["program_0.py"].count("ctx.all_to_all(") == 0
