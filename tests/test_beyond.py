"""Plans that splits, placements and orders give beyond data, tensor and pipeline parallelism train
as one device does, alone and combined."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from subjects import Subject, subject

import superscaler as ss
from superscaler.compiler import CompiledProgram
from superscaler.errors import SuperScalerError
from superscaler.workload import load_workload

LAYERS = "layers='layers', count=4, first='embed norm', last='head'"
WORDS = "model.encoder.embed_tokens model.decoder.embed_tokens"
PLANS = [
    ("gpt", "coshard(data_parallel(dp=1), parts=2)"),
    ("gpt", "coshard(zero(dp=2, stage=3), parts=2)"),
    (
        "gpt",
        "coshard(coshard(data_parallel(dp=2), parts=2, where='layers.0'), parts=1, "
        "where='layers.1')",
    ),
    ("gpt", "coshard(hybrid(pp=2, tp=2, microbatches=2), parts=2, axes='layers.*.fc1.weight:0')"),
    ("swin", "coshard(data_parallel(dp=2), parts=2)"),
    ("mbart", "coshard(pipeline(pp=2, microbatches=2), parts=2, where='model.decoder')"),
    ("gpt", "interlaced(pp=2, microbatches=4, embedding='tokens', head='head')"),
    ("gpt", "interlaced(pp=2, tp=2, microbatches=2, embedding='tokens', head='head')"),
    ("gpt", "coshard(interlaced(pp=2, dp=2, microbatches=2, embedding='tokens'), parts=2)"),
    (
        "gpt",
        "interlaced(pp=2, dp=2, microbatches=2, embedding='tokens', head='head', zero=3, "
        "recompute='layers.*')",
    ),
    ("mbart", f"interlaced(pp=2, microbatches=4, embedding='{WORDS}', head='lm_head')"),
    ("mbart", f"vocabulary_parallel(zero(dp=2, stage=1), embedding='{WORDS}', head='lm_head')"),
    (
        "gpt",
        "coshard(vocabulary_parallel(hybrid(dp=2, tp=2, microbatches=2), embedding='tokens', "
        "head='head'), parts=2)",
    ),
    ("gpt", "vocabulary_parallel(hybrid(dp=2, pp=2, microbatches=2), embedding='tokens')"),
    ("recycling", f"three_f_one_b(pp=2, microbatches=4, {LAYERS})"),
    ("recycling", f"three_f_one_b(pp=2, microbatches=4, {LAYERS}, dp=2, order='auto')"),
    (
        "recycling",
        f"three_f_one_b(pp=2, microbatches=2, {LAYERS}, dp=2, zero=1, recompute='layers.*')",
    ),
    ("recycling", f"coshard(three_f_one_b(pp=2, microbatches=2, {LAYERS}, tp=2), parts=2)"),
    ("gpt", "bidirectional(pp=4, microbatches=4)"),
    ("gpt", "bidirectional(pp=4, microbatches=2, order='chimera', zero=1)"),
    ("gpt", "bidirectional(pp=2, microbatches=2, tp=2, zero=3, recompute='layers.*')"),
    ("gpt", "coshard(bidirectional(pp=2, microbatches=2, order='auto'), parts=2)"),
]


@cache
def model(name: str) -> Subject:
    if name == "gpt":
        return subject("gpt", layers=4, hidden=16, heads=4, seq=8, tied=True)
    return subject(name)


@pytest.mark.parametrize(("name", "plan"), PLANS)
def test_trains_as_one_device_does(name: str, plan: str) -> None:
    of = model(name)
    report = of.check(of.compile(plan).files)
    assert report.ok, report.largest_error


def test_rows_of_a_vocabulary_over_replicas_stay_where_they_are() -> None:
    """No gradient and no copy of the table travels; each device has its share of the states."""
    toy = subject("gpt", layers=1, hidden=16, heads=2, seq=4, batch=8, vocab=4096)
    plain, ours = (
        toy.compile(plan).simulate()
        for plan in (
            "data_parallel(dp=4)",
            "vocabulary_parallel(data_parallel(dp=4), embedding='tokens', head='head')",
        )
    )
    assert sum(ours.link_bytes.values()) < 0.1 * sum(plain.link_bytes.values())
    assert ours.classes[0].resident_bytes < 0.3 * plain.classes[0].resident_bytes


@pytest.mark.dist
@pytest.mark.parametrize("number", [2, 6, 9, 10, 13, 15])
def test_on_gloo_processes(number: int) -> None:
    name, plan = PLANS[number]
    settings = {"layers": 4, "hidden": 16, "heads": 4, "seq": 8, "tied": True}
    path = Path(__file__).parent / "models" / f"{name}.py"
    workload = load_workload(f"{path}:{name}", settings if name == "gpt" else {})
    assert ss.verify(workload, plan, steps=1).ok


def wide(parts: int) -> CompiledProgram:
    """A block whose hidden values are most of its memory, in so many parts (0: not cut)."""
    plain = "data_parallel(dp=1)"
    plan = f"coshard({plain}, parts={parts}, axes='0.weight:0')" if parts else plain
    return subject("wide").compile(plan)


def test_parts_in_time_take_less_memory_and_no_communication() -> None:
    found = [wide(parts).simulate() for parts in (0, 1, 4, 8)]
    assert not any(simulation.traffic for simulation in found)
    plain, whole, four, eight = (
        s.classes[0].peak_bytes - s.classes[0].resident_bytes for s in found
    )
    assert plain >= whole
    assert four < 1.25 / 4 * whole
    assert eight < 1.25 / 8 * whole


def test_a_part_runs_again_right_before_its_backward() -> None:
    """One function has a part's forward and backward: what is between is never kept."""
    text = wide(4).files["program_0.py"]
    functions = [body for body in text.split("\ndef ") if "gelu_backward" in body]
    assert len(functions) == 1
    assert "aten.gelu.default" in functions[0]


def test_parts_inside_of_a_recomputed_layer_take_less_than_either() -> None:
    """The layer runs again from what enters it, then each part of it from what enters the part."""
    toy = subject("gpt", layers=8, hidden=16, heads=4, seq=64, batch=2, fused=False)
    again, parts, both = (
        toy.compile(plan)
        for plan in (
            "hybrid(recompute='layers.*')",
            "coshard(hybrid(), parts=4, where='layers.*')",
            "coshard(hybrid(recompute='layers.*'), parts=4, where='layers.*')",
        )
    )
    assert toy.check(both.files).ok
    peaks = [c.simulate().peak_bytes for c in (again, parts, both)]
    assert peaks[2] < 0.95 * min(peaks[:2])


def lines(plan: str, of: Subject) -> list[str]:
    """The order of a plan, a line for each group of devices; W belongs to B."""
    found = []
    for sequence in of.compile(plan).program.partition.sequences:
        words = [f"{n[0].upper()}{n.rpartition('_')[2]}.{m}" for n, m in sequence if n[0] != "w"]
        found.append(" ".join(words))
    return found


def test_three_forwards_to_one_backward() -> None:
    assert lines(f"three_f_one_b(pp=2, microbatches=2, {LAYERS})", model("recycling")) == [
        "F0.0 F0.1 F2.0 F2.1 F4.0 F4.1 B4.0 B4.1",
        "F1.0 F1.1 F3.0 F3.1 F5.0 B5.0 F5.1 B5.1",
    ]


def test_embedding_steps_are_between_those_of_the_layers_on_every_line() -> None:
    plan = "interlaced(pp=2, microbatches=4, embedding='tokens', head='head')"
    found = lines(plan, model("gpt"))
    shared = [[w for w in line.split() if w[1] in "03"] for line in found]
    assert shared[0] == shared[1]
    assert len(shared[0]) == 16
    assert "F1.0" in found[0]
    assert "F2.0" in found[1]


def test_both_ways_at_once_hold_two_equal_copies() -> None:
    files = model("gpt").compile("bidirectional(pp=4, microbatches=2)").files
    held = [re.findall(r"'name': '(.*?)'", files[f"rank_{rank}.py"]) for rank in range(4)]
    assert held[0] == held[3]
    assert held[1] == held[2]
    assert held[0] != held[1]
    assert lines("bidirectional(pp=2, microbatches=2, order='chimera')", model("gpt")) == [
        "F0.0 F1.0 B1.0 B0.0 F0.1 F1.1 B1.1 B0.1"
    ]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("coshard(zero(dp=2), parts=0)", "coshard: expected parts of 1 or more, found 0"),
        (
            "coshard(zero(dp=2), parts=3, axes='layers.*.fc1.weight:0')",
            "split layers.*.fc1.weight:0 on coshard by 3: axis layers.0.fc1.weight:0 has "
            "64 elements",
        ),
        (
            "three_f_one_b(pp=4, microbatches=2, layers='x', count=3)",
            "expected a count of 4 or more",
        ),
        (
            "three_f_one_b(pp=2, microbatches=2, layers='x', count=3)",
            "stage 0: no operator matches x.0; the model has",
        ),
        ("bidirectional(pp=3, microbatches=2)", "both directions at once take an even pp, with"),
        (
            "hybrid(pp=2, microbatches=2, order='chimera', placement='linear')",
            "order chimera: expected stages s and S - 1 - s on the same devices",
        ),
        ("interlaced(pp=2, microbatches=2, embedding='words')", "no axis 'words.weight:0'"),
        (
            "vocabulary_parallel(pipeline(pp=2, microbatches=2), embedding='tokens')",
            "vocabulary_parallel: expected a plan with dp or tp, found one without",
        ),
    ],
)
def test_plans_that_cannot_be(plan: str, message: str) -> None:
    with pytest.raises(SuperScalerError) as found:
        model("gpt").compile(plan)
    assert message in str(found.value)


def test_splits_in_time_and_in_space_have_names_of_their_own() -> None:
    text = (
        "stages: [{devices: [0, 1], mesh: {tp: 2}}]\nsplits:\n- {axis: batch, dim: %s, parts: 2}\n"
    )
    with pytest.raises(SuperScalerError, match="tp is a mesh dim, which gives the number of parts"):
        model("gpt").compile(ss.Plan.from_yaml(text % "tp"))
    more = text % "a" + "- {axis: 'layers.*.fc1.weight:0', dim: a, parts: 4}\n"
    with pytest.raises(
        SuperScalerError, match="expected 2 parts, as the other splits of that name"
    ):
        model("gpt").compile(ss.Plan.from_yaml(more))
    again = ss.Plan.from_yaml(text % "a")
    assert ss.Plan.from_yaml(again.to_yaml()) == again
    assert isinstance(again.splits[0].parts, int)
    assert torch.float64 in {t.dtype for t in model("gpt").graph.tensors}
