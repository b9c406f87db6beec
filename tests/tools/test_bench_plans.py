"""The benchmark of plans: its candidates, what it makes of shallow models, and a run of it."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import bench_plans  # noqa: E402
from planning.bound import least_us  # noqa: E402
from planning.cells import EXAMPLES, Cell, cells  # noqa: E402
from planning.conventional import Candidate, conventional, known_candidate  # noqa: E402
from planning.measure import Measured, Search  # noqa: E402
from planning.ours import flat, ours, variants  # noqa: E402
from planning.some import OFFLOAD, Mix, fewest, mixes, of_first_blocks  # noqa: E402
from planning.thin import Floor, floor, simulated  # noqa: E402

SIZES = {"hidden": 64, "heads": 4, "seq": 64, "vocab": 512, "layers": 4}


def tiny(devices: int = 2) -> Cell:
    """A GPT of four small layers."""
    return Cell(
        "gpt",
        "tiny",
        devices,
        f"{EXAMPLES}/gpt.py:workload",
        SIZES,
        4,
        4,
        "layers.*",
        (("layers", 4),),
        embedding="tokens",
        global_batch=8,
    )


def quiet(line: str) -> None:
    del line


def test_cells_have_the_five_models_on_four_numbers_of_devices() -> None:
    assert len({c.name for c in cells()}) == len(cells())
    assert {(c.model, c.devices) for c in cells()} == {
        (m, d) for m in ("gpt", "swin", "mbart", "t5", "evoformer") for d in (4, 8, 16, 32)
    }


def test_conventional_plans_are_all_ways_to_divide_the_devices() -> None:
    found = conventional(replace(tiny(4), heads=4))
    assert len({c.text for c in found}) == len(found)
    assert {(c.width, c.stages) for c in found} == {(4, 1), (2, 2), (1, 4)}
    assert any(c.chunks == 2 and c.stages == 2 for c in found)
    assert not any("zero=3" in c.text and c.stages > 1 for c in found)


def test_a_model_that_runs_its_layers_several_times_has_no_conventional_pipeline() -> None:
    evoformer = next(c for c in cells() if c.model == "evoformer")
    assert {c.stages for c in conventional(evoformer)} == {1}
    assert any("three_f_one_b" in c.text for c in ours(evoformer))


def test_variants_of_a_pipeline_are_placed_and_go_both_ways() -> None:
    cell = tiny()
    pipelines = [c for c in ours(cell) if c.stages == 2 and "coshard(hybrid" in c.text]
    texts = [c.text for c in variants(cell, pipelines[:1])]
    for wanted in ("parts=8", "placement='free'", "placement='bidirectional'"):
        assert any(wanted in text for text in texts)
    some = of_first_blocks(cell, pipelines[:1])
    assert all(f"layers.{{0-{n}}}" in c.text for n, c in enumerate(some))
    assert {c.whole for c in some} == {pipelines[0]}


def test_as_few_blocks_as_the_memory_allows_are_treated_in_a_slower_way() -> None:
    cell = replace(tiny(), settings={**SIZES, "seq": 512, "vocab": 256})
    search = Search(cell, quiet)
    bases = [(0.0, c) for c in flat(cell) if c.text == "hybrid(dp=2, microbatches={m})"]

    def recomputed(capacity: float) -> Mix:
        found = mixes(cell, bases, search.floor, capacity, float("inf"), float("inf"))
        (mix,) = [m for m in found if (m.fast, m.small) == ("", "recompute")]
        return mix

    ample = recomputed(float("inf"))
    assert ample.count == 0
    peaks = [search.peak(ample.at(cell, n)) or 0 for n in range(cell.grain + 1)]
    assert peaks == sorted(set(peaks), reverse=True)
    for count, peak in enumerate(peaks[1:], 1):
        wrong = replace(recomputed(peak), count=0 if count > 2 else cell.grain)
        tried = fewest(cell, wrong, search.peak, peak)
        fitting = [c.text for c in tried if (search.peak(c) or 0) <= peak]
        assert ample.at(cell, count).text in fitting
        assert ample.at(cell, count - 1).text not in fitting


def test_a_mix_waits_for_no_copies_and_stays_within_both_memories() -> None:
    """Of 10 groups, all offloaded or all recomputed: 200 us of copies, or 30 more of arithmetic."""
    few, many = Floor(100, 10, 200, 50), Floor(130, 20, 0, 0)
    base = conventional(tiny())[0]
    mix = Mix(base, OFFLOAD, "recompute", few, many, 10)
    for capacity, host_capacity, count, step_us in ((30, 50, 5, 115), (30, 20, 6, 118)):
        settled = mix.settled(capacity, host_capacity)
        assert settled is not None
        assert (settled.count, settled.least, settled.step_us) == (count, count, step_us)
    roomy = mix.settled(13, 50)
    assert roomy is not None
    assert (roomy.count, roomy.least, roomy.step_us) == (3, 5, 140)
    assert mix.settled(9, 50) is None


def test_blocks_that_are_offloaded_take_what_they_copy_beside_what_they_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = tiny()
    search = Search(cell, quiet)
    bases = [(0.0, c) for c in flat(cell) if c.text == "hybrid(dp=2, microbatches={m})"]
    found = mixes(cell, bases, search.floor, float("inf"), float("inf"), float("inf"))
    (mix,) = [m for m in found if (m.fast, m.small) == ("", OFFLOAD)]
    assert mix.few.step_us == mix.many.step_us == floor(cell, bases[0][1]).step_us
    assert mix.few.copy_us == mix.few.host_bytes == 0 == mix.count
    assert mix.many.copy_us > 0
    assert mix.many.host_bytes > 0
    assert "activations='layers.{0-1}', optimizer=True" in mix.at(cell, 2).text
    recomputed = replace(mix, fast=OFFLOAD, small="recompute").at(cell, 1).text
    assert "recompute='layers.{3-3}'" in recomputed  # the last: copies have most time
    assert "activations='layers.{0-2}'" in recomputed
    assert search._unless_ruled_out(mix.at(cell, cell.grain), float("inf")) is not None
    monkeypatch.setattr(Search, "host_capacity", mix.many.host_bytes - 1)
    assert search._unless_ruled_out(mix.at(cell, cell.grain), float("inf")) is None
    plan = mix.at(cell, cell.grain).plan(4)
    real = simulated(cell, cell.full_depth, plan, cell.global_batch, cell.cluster)
    assert real.host_peak_bytes == pytest.approx(mix.many.host_bytes, rel=0.01)


@pytest.mark.parametrize("start", ["hybrid(dp=2, ", "hybrid(tp=2, ", "coshard(hybrid(dp=2, zero=1"])
def test_shallow_models_tell_the_step_of_a_deep_one(start: str) -> None:
    cell = tiny()
    candidate = next(
        c
        for c in [*conventional(cell), *ours(cell)]
        if c.stages == 1 and c.text.startswith(start) and "recompute" not in c.text
    )
    told = floor(cell, candidate)
    microbatches = cell.global_batch // candidate.samples
    plan = candidate.plan(microbatches)
    real = simulated(cell, cell.full_depth, plan, cell.global_batch, cell.cluster)
    assert told.step_us == pytest.approx(real.step_us, rel=0.02)
    assert told.peak_bytes <= 1.01 * real.peak_bytes


def test_floors_of_pipelines_are_not_above_what_they_take() -> None:
    cell = tiny()
    for candidate in conventional(cell):
        if candidate.stages == 2:
            plan = candidate.plan(cell.global_batch)
            real = simulated(cell, cell.full_depth, plan, cell.global_batch, cell.cluster)
            least = floor(cell, candidate)
            assert least.step_us <= real.step_us
            assert least.peak_bytes <= real.peak_bytes


def test_no_plan_is_shorter_than_the_bound() -> None:
    cell = tiny()
    bound = least_us(cell)
    found = [c for c in [*conventional(cell), *ours(cell)] if c.stages == 1]
    steps = [floor(cell, c).step_us for c in found[::3]]
    assert 0 < bound < min(steps)
    assert bound == pytest.approx(2 * least_us(replace(cell, devices=4)))


def test_what_does_not_fit_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "capacity", 1000)
    search = Search(tiny(), quiet)
    assert search.best(conventional(tiny())[:2], float("inf")) is None
    assert 1000 < search.least_bytes < 1e9


def test_an_estimate_that_turns_out_wrong_rules_nothing_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = tiny()
    candidates = [c for c in conventional(cell) if c.is_plain and c.stages == 1][:3]
    search = Search(cell, quiet)
    shortest = search.estimates(candidates, float("inf"))[0]
    whole = Search.simulated

    def too_large(self: Search, candidate: Candidate) -> Measured | None:
        found = whole(self, candidate)
        return replace(found, fits=found.candidate != shortest.candidate) if found else None

    monkeypatch.setattr(Search, "simulated", too_large)
    found = search.best(candidates, float("inf"))
    assert found is not None
    assert found.candidate != shortest.candidate


def test_a_run_keeps_the_rows_of_runs_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In threads: a process that torch with CUDA forked cannot differentiate if its parent did."""
    out = tmp_path / "plans.md"
    monkeypatch.setattr(bench_plans, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(bench_plans, "cells", lambda: [tiny()])
    for name, count in (("conventional", 2), ("ours", 1), ("variants", 1), ("flat", 1)):
        whole = getattr(bench_plans, name)
        monkeypatch.setattr(bench_plans, name, lambda *a, w=whole, n=count: w(*a)[:n])
    monkeypatch.setattr(sys, "argv", ["bench_plans.py", "--devices", "2", "--out", str(out)])
    bench_plans.main()
    written = out.read_text()
    head, _, row, _, summary, _, *conventions = written.splitlines()
    assert head.startswith("| cell")
    assert row.startswith("| gpt tiny on 2 | `hybrid(")
    assert "compute" in row
    *_, speedup, most, _ = row.split(" | ")
    assert float(speedup) <= float(most)
    assert summary.startswith("1 cells, ")
    assert conventions[0].startswith("A conventional plan is dp x tp x pp")
    run = bench_plans.run
    monkeypatch.setattr(bench_plans, "run", None)  # it has no cell left to run
    bench_plans.main()
    assert out.read_text() == written
    monkeypatch.setattr(bench_plans, "run", run)
    _, plan, seconds, peak_gb, *_ = row.split(" | ")
    capsys.readouterr()
    arguments = ["bench_plans.py", "--devices", "2", "--plan", plan.strip("`")]
    monkeypatch.setattr(sys, "argv", arguments)
    bench_plans.main()
    assert capsys.readouterr().out == f"gpt tiny on 2: {seconds} s, {peak_gb} GB\n"


def test_rows_are_improved_where_a_mix_is_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = tiny()
    plan = next(c for c in conventional(cell) if c.text == "hybrid(dp=2, microbatches={m})")
    monkeypatch.setattr(bench_plans, "_mixed", lambda *_: [plan])
    slow = bench_plans.Best("slow", 1.0, 1.0, 0.0, 1.0)
    row = bench_plans.Row(cell.name, slow, slow, 0.0, 0.1, 7, 1.0)
    better = bench_plans.run(cell, False, row, bench_plans._improved)
    assert better.mine is not None
    assert (better.theirs, better.mine.plan) == (slow, plan.plan(4))
    assert better.mine.step_s < 1.0
    assert better.tried > 7
    quick = replace(row, mine=replace(slow, step_s=1e-9))
    assert bench_plans.run(cell, False, quick, bench_plans._improved).mine == quick.mine


def test_rows_can_be_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = tiny()
    two = [c for c in conventional(cell) if c.is_plain and c.stages == 1][:2]
    monkeypatch.setattr(bench_plans, "conventional", lambda _: two)
    stale = bench_plans.Best("hybrid(tp=2, microbatches=8)", 9.0, 9.0, 0.0, 9.0)
    row = bench_plans.Row(cell.name, stale, stale, 0.0, 9.0, 7, 1.0)
    again = bench_plans.run(cell, False, row, bench_plans._again)
    assert again.theirs is not None
    assert again.mine is not None
    assert again.theirs.plan in [c.plan(cell.global_batch // c.samples) for c in two]
    found = bench_plans.recomputed(cell, stale.plan)
    best = min(again.theirs.step_s, float(found.split()[0]))
    assert again.mine.step_s == pytest.approx(best, abs=0.01)
    assert 0 < again.bound_s < again.mine.step_s
    with pytest.raises(ValueError, match="expected microbatches="):
        known_candidate(cell, "hybrid(tp=2)")


def test_sequences_are_split_through_attention_where_it_is_an_operator() -> None:
    cell = replace(tiny(4), has_attention=True)
    found = [c for c in ours(cell) if c.text.startswith("context_parallel(")]
    assert {(c.width, c.stages) for c in found} == {(4, 1), (2, 2)}
    assert not any(c.text.startswith("context_parallel(") for c in ours(tiny(4)))
    ringed = next(c for c in found if "ring=True" in c.text and c.stages == 1)
    assert floor(cell, ringed).step_us > 0
