"""Verify: what is equal, what differs, and every fault that is seeded into a program."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from math import inf, isnan
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import superscaler as ss
from superscaler.errors import PlanError, SuperScalerError, VerifyError
from superscaler.runtime.failures import CommunicationError
from superscaler.runtime.shards import whole_part
from superscaler.verify import Expected, Report, Row, Verdict, expect, verify_program
from superscaler.verify.compare import compare
from superscaler.verify.ranks import Part, RankResult, train_in_threads
from superscaler.verify.rounding import drop_rounding
from superscaler.workload import cast

MODELS = Path(__file__).parent / "models"
EXAMPLE = Path(__file__).parents[1] / "examples/gpt.py"
SMALL_GPT = {"layers": 2, "hidden": 32, "heads": 4, "seq": 8, "batch": 4}
DATA_PARALLEL = "data_parallel(dp=2)"


@cache
def mlp(**settings: object) -> ss.Workload:
    return ss.load_workload(f"{MODELS / 'mlp.py'}:mlp", {"layers": 2, "hidden": 8, **settings})


@cache
def files_of(plan: str) -> dict[str, str]:
    workload = cast(mlp(clip=1.0), torch.float64)
    graph = ss.trace(
        workload.step, workload.model, workload.batch, workload.optimizer, clip_grad_norm=1.0
    )
    return ss.compile(graph, plan).files


def check(files: dict[str, str]) -> Report:
    """`verify` of the MLP's program, in threads."""
    workload = cast(mlp(clip=1.0), torch.float64)
    return verify_program(workload, files, expected=expected(), processes=False, timeout=20)


@cache
def expected() -> Expected:
    return expect(cast(mlp(clip=1.0), torch.float64), steps=2)


@pytest.mark.parametrize(
    "plan",
    [
        DATA_PARALLEL,
        "zero(dp=2, stage=3)",
        "megatron(tp=2)",
        "pipeline(pp=2, microbatches=4)",
        "hybrid(dp=2, tp=2, pp=2, microbatches=2, zero=2)",
    ],
)
def test_plans_are_equal(plan: str) -> None:
    report = ss.verify(mlp(clip=1.0), plan, processes=False)
    assert report.ok, report.failures
    assert report.largest_error < 1e-12
    kinds = {row.kind for row in report.rows}
    assert kinds == {"loss", "metric", "gradient", "gradient norm", "parameter", "state"}


@pytest.mark.dist
def test_processes_are_equal() -> None:
    report = ss.verify(mlp(), "hybrid(tp=2, pp=2, microbatches=2)", devices=4, steps=3, timeout=60)
    assert report.ok, report.failures
    assert (report.world_size, report.steps, report.dtype) == (4, 3, "float64")


def test_low_precision_has_its_own_tolerance() -> None:
    report = ss.verify(mlp(), DATA_PARALLEL, dtype=None, processes=False)
    assert report.ok, report.failures
    assert (report.dtype, report.tolerance) == ("float32", 1e-3)
    assert not ss.verify(mlp(), DATA_PARALLEL, dtype=None, processes=False, tolerance=1e-12).ok


def test_half_precision_inside_of_a_step_has_its_tolerance() -> None:
    """Under autocast float32 parameters are of products in bfloat16, and no more exact."""

    def mixed(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return of.step(model, batch)

    of = mlp()
    workload = replace(of, step=mixed)
    report = ss.verify(workload, DATA_PARALLEL, dtype=None, processes=False)
    assert report.ok, report.failures
    assert (report.dtype, report.tolerance) == ("float32 and bfloat16 inside", 0.1)
    assert not ss.verify(workload, DATA_PARALLEL, dtype=None, processes=False, tolerance=1e-5).ok
    exact = ss.verify(workload, DATA_PARALLEL, processes=False)
    assert (exact.dtype, exact.tolerance) == ("float64", 1e-9)


def test_meta_models_start_from_their_own_initialisation() -> None:
    assert ss.verify(mlp(meta=True), DATA_PARALLEL, processes=False).ok


def test_zero_but_for_rounding_is_listed() -> None:
    workload = ss.load_workload(f"{EXAMPLE}:workload", SMALL_GPT)
    report = ss.verify(workload, DATA_PARALLEL, steps=3, processes=False)
    assert report.ok, report.failures
    rounding = [row.name for row in report.rows if row.verdict is Verdict.ROUNDING]
    assert rounding == [f"layers.{n}.attention.key.bias" for n in (0, 1)]
    assert "zero but for rounding" in report.notes[0]
    assert "layers.0.attention.key.bias" in report.notes[0]


def test_every_step_has_its_own_batch() -> None:
    workload = ss.load_workload(f"{EXAMPLE}:workload", SMALL_GPT)
    report = ss.verify(workload, "pipeline(pp=2, microbatches=2)", steps=3, processes=False)
    made = expect(cast(workload, torch.float64), steps=3)
    assert report.ok, report.failures
    assert not torch.equal(made.batches[0]["tokens"], made.batches[1]["tokens"])
    assert len({float(loss) for loss in made.losses}) == 3


def test_dropout_draws_as_one_process_does() -> None:
    workload = ss.load_workload(f"{EXAMPLE}:workload", SMALL_GPT | {"dropout": 0.2})
    assert ss.verify(workload, "hybrid(dp=2, tp=2)", steps=2, seed=3, processes=False).ok


def test_the_workload_is_left_alone() -> None:
    workload = mlp()
    before = [p.detach().clone() for p in workload.model.parameters()]
    ss.verify(workload, DATA_PARALLEL, dtype=None, processes=False)
    assert all(map(torch.equal, before, workload.model.parameters()))


def test_other_number_of_devices() -> None:
    with pytest.raises(PlanError, match="the plan uses 2 devices, 3 were asked for"):
        ss.verify(mlp(), DATA_PARALLEL, devices=3, processes=False)


# seeded faults


def edit(files: dict[str, str], name: str, pattern: str, replacement: str) -> dict[str, str]:
    """A copy of a program in which the first match is replaced."""
    text, count = re.subn(pattern, replacement, files[name], count=1)
    assert count == 1, f"{name} has no {pattern}"
    return files | {name: text}


def test_the_program_itself_is_equal() -> None:
    assert check(files_of(DATA_PARALLEL)).ok


def test_a_dropped_reduction() -> None:
    report = check(edit(files_of("megatron(tp=2)"), "program_0.py", ALL_REDUCE, r"\1"))
    assert not report.ok
    assert {row.kind for row in report.failures} >= {"loss", "gradient", "parameter"}


ALL_REDUCE = r"ctx\.all_reduce\((\w+), [^)]*\)"


def test_a_reduction_over_the_wrong_ranks() -> None:
    """Replicas that are not reduced each hold their own part's gradient."""
    files = files_of(DATA_PARALLEL)
    for rank in range(2):
        files = edit(files, f"rank_{rank}.py", r"'group0': \(0, 1\)", f"'group0': ({rank},)")
    report = check(files)
    assert not report.ok
    assert any(note.startswith("replicas of") for note in report.notes)


def test_a_broken_mask() -> None:
    """Rank 1 takes the part of the batch that is rank 0's."""
    files = files_of(DATA_PARALLEL)
    table = re.search(r"INPUTS = \[.*?\n\]", files["rank_0.py"], re.DOTALL)
    assert table is not None
    broken = re.sub(r"INPUTS = \[.*?\n\]", lambda _: table[0], files["rank_1.py"], flags=re.DOTALL)
    assert broken != files["rank_1.py"]
    report = check(files | {"rank_1.py": broken})
    assert not report.ok


def test_a_part_of_a_parameter_that_no_rank_holds() -> None:
    files = dict(files_of("megatron(tp=2)"))
    name, table = "layers.0.fc1.weight", r"(\{[^\n]*'name': 'layers.0.fc1.weight'[^\n]*)"
    entry = re.search(table, files["rank_0.py"])
    assert entry is not None
    files = edit(files, "rank_1.py", table, entry[0].replace("\\", "\\\\"))
    bad = {(row.kind, row.name): row.verdict for row in check(files).failures}
    assert bad["parameter", name] is Verdict.MISSING
    assert bad["gradient", name] is Verdict.MISSING


def test_collectives_in_another_order_on_one_rank() -> None:
    files = dict(files_of("pipeline(pp=2, microbatches=2)"))
    schedule = re.search(r"SCHEDULE = \[\n(.*?)\n\]", files["program_1.py"], re.DOTALL)
    assert schedule is not None
    lines = schedule[1].splitlines()
    receives = [i for i, line in enumerate(lines) if "convert" in line]
    first, second = receives[:2]
    lines[first], lines[second] = lines[second], lines[first]
    swapped = files["program_1.py"].replace(schedule[1], "\n".join(lines))
    try:
        report = check(files | {"program_1.py": swapped})
    except SuperScalerError:
        return  # the ranks do not meet
    assert not report.ok


def test_ranks_that_wait_for_each_other() -> None:
    files = dict(files_of("pipeline(pp=2, microbatches=2)"))
    files = edit(files, "program_0.py", r"ctx\.send\(\w+, \"\w+\"\)", "pass")
    with pytest.raises(CommunicationError, match="deadlock, no rank can go on"):
        check(files)


@pytest.mark.dist
def test_a_process_that_fails() -> None:
    files = edit(
        files_of(DATA_PARALLEL), "program_0.py", r"\n    return", "\n    raise_here()\n    return"
    )
    workload = cast(mlp(clip=1.0), torch.float64)
    with pytest.raises(VerifyError, match=r"rank [01] failed: rank [01], task .*raise_here"):
        verify_program(workload, files, expected=expected(), timeout=60)


@pytest.mark.dist
def test_processes_that_do_not_finish() -> None:
    files = dict(files_of("pipeline(pp=2, microbatches=2)"))
    files = edit(files, "program_0.py", r"ctx\.send\(\w+, \"\w+\"\)", "pass")
    workload = cast(mlp(clip=1.0), torch.float64)
    with pytest.raises(VerifyError, match=r"ranks .*1.* did not finish within 8 s; run in one"):
        verify_program(workload, files, expected=expected(), timeout=8)


# the parts of it


def result(parts: list[Part], loss: float = 1.0) -> RankResult:
    return RankResult([torch.tensor(loss)] * 2, [{}, {}], None, parts)


def whole(kind: str, name: str, value: torch.Tensor) -> Part:
    return Part(kind, name, *whole_part(value.shape), value)


def small_expected(**changes: object) -> Expected:
    one = torch.ones(2, dtype=torch.float64)
    made = replace(
        expected(),
        losses=(torch.tensor(1.0), torch.tensor(1.0)),
        metrics=({}, {}),
        grad_norm=None,
        grads={"w": one},
        parameters={"w": one},
        initial={"w": torch.zeros_like(one)},
        buffers={},
        states={},
        largest_gradient=1.0,
    )
    return replace(made, **changes)


def verdicts(made: Expected, *ranks: RankResult) -> dict[tuple[str, str], Row]:
    return {(row.kind, row.name): row for row in compare(made, list(ranks)).rows}


def test_each_replica_is_compared() -> None:
    one = torch.ones(2, dtype=torch.float64)
    good = result([whole("gradient", "w", one), whole("parameter", "w", one)])
    bad = result([whole("gradient", "w", one), whole("parameter", "w", one + 1e-6)], loss=1.5)
    rows = verdicts(small_expected(), good, bad)
    assert rows["gradient", "w"].ok
    assert rows["parameter", "w"].verdict is Verdict.DIFFERS
    assert rows["parameter", "w"].where == "rank 1"
    assert rows["loss", "step 0"].error == pytest.approx(0.5)


def test_small_gradients_are_judged_against_the_largest() -> None:
    noise = torch.full((2,), 1e-17, dtype=torch.float64)
    made = small_expected(grads={"w": noise}, parameters={})
    row = verdicts(made, result([whole("gradient", "w", -noise)]))["gradient", "w"]
    assert row.verdict is Verdict.ROUNDING
    assert row.error == pytest.approx(2e-17)
    row = verdicts(made, result([whole("gradient", "w", noise + 1e-8)]))["gradient", "w"]
    assert row.verdict is Verdict.DIFFERS


def test_metrics_that_are_rounding_are_judged_against_the_loss() -> None:
    noise = torch.tensor(1e-17, dtype=torch.float64)
    made = small_expected(metrics=({"m": noise},), grads={}, parameters={})
    loss = float(made.losses[0])
    for other, verdict in ((-noise, Verdict.ROUNDING), (noise + 1e-8 * loss, Verdict.DIFFERS)):
        found = replace(result([]), metrics=[{"m": other}])
        assert verdicts(made, found)["metric", "m, step 0"].verdict is verdict


def test_what_an_optimizer_makes_is_of_the_same_dtype_on_both_sides() -> None:
    """A learning rate made in the optimizer's callable is float32, also beside a float64 model."""

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=torch.tensor(0.1))

    workload = replace(cast(mlp(), torch.float64), optimizer=optimizer)
    assert ss.verify(workload, DATA_PARALLEL, processes=False).ok


def test_tensors_from_around_a_float64_step_are_explained() -> None:
    weights = torch.ones(8)

    def step(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return torch.mv(model(batch), weights).square().mean()

    of = ss.Workload(step, nn.Linear(8, 8), lambda p: torch.optim.SGD(p, 0.1), torch.randn(4, 8))
    with pytest.raises(VerifyError, match=r"Double.* as they are: make them buffers .*--dtype"):
        expect(cast(of, torch.float64))


def test_a_tensor_that_is_not_a_number_differs() -> None:
    one = torch.ones(2, dtype=torch.float64)
    bad = result([whole("gradient", "w", one), whole("parameter", "w", one * float("nan"))])
    row = verdicts(small_expected(), bad)["parameter", "w"]
    assert isnan(row.error)
    assert not row.ok


def test_missing_and_unexpected_tensors() -> None:
    one = torch.ones(2, dtype=torch.float64)
    rows = verdicts(small_expected(), result([whole("gradient", "v", one)]))
    assert rows["gradient", "w"].verdict is Verdict.MISSING
    assert rows["gradient", "v"].verdict is Verdict.UNEXPECTED
    assert rows["parameter", "w"].verdict is Verdict.MISSING


def test_a_weight_that_the_step_does_not_use_may_be_held_by_none() -> None:
    one = torch.ones(2, dtype=torch.float64)
    made = small_expected(grads={}, initial={"w": one})
    assert compare(made, [result([])]).not_held == ["w"]


def test_rounding_is_kept_from_the_optimizer() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([parameter], lr=1.0)
    drop_rounding(optimizer, lambda: 1e-6)
    gradient = torch.tensor([1.0, 1e-9, -1e-9])
    parameter.grad = gradient
    optimizer.step()
    assert parameter.tolist() == [pytest.approx(-1.0), 0.0, 0.0]
    assert gradient[1] == pytest.approx(1e-9)  # as it was


def test_report() -> None:
    rows = (Row("loss", "step 0", 0.0, Verdict.EQUAL), Row("gradient", "w", inf, Verdict.DIFFERS))
    report = Report(rows, ("a note",), 1e-9, "float64", 2, 1)
    data = json.loads(report.to_json())
    assert (data["ok"], data["largest_error"], data["notes"]) == (False, "inf", ["a note"])
    assert data["rows"][1]["verdict"] == "differs"
    assert report.summary.startswith("NOT equal: 2 ranks, 1 steps, float64: 1 of 2 differ")
    assert report.table().row_count == 3


def test_threads_return_what_each_rank_holds() -> None:
    workload = cast(mlp(clip=1.0), torch.float64)
    ranks = train_in_threads(files_of(DATA_PARALLEL), expected(), workload.optimizer, 20)
    kinds = {part.kind for part in ranks[1].parts}
    assert kinds == {"gradient", "parameter", "state"}


def test_state_of_an_unused_parameter_is_not_held() -> None:
    class Spare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)
            self.spare = torch.nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x).square().mean()

    workload = ss.Workload(
        step=lambda model, batch: model(batch),
        model=Spare(),
        optimizer=lambda parameters: torch.optim.Adagrad(parameters, lr=0.1),
        batch=torch.ones(4, 4),
    )
    report = ss.verify(workload, "data_parallel(dp=2)", processes=False)
    assert report.ok
    assert any("spare" in note for note in report.notes)


def test_a_running_mean_of_nothing_but_rounding() -> None:
    """What batch norm gives has mean zero, and so has any product of it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 8),
        nn.BatchNorm1d(8),
        nn.Linear(8, 8, bias=False),
        nn.BatchNorm1d(8, track_running_stats=True),
        nn.Linear(8, 1),
    )
    workload = ss.Workload(
        step=lambda model, x: (model(x) ** 3).mean(),
        model=model,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        batch=torch.randn(16, 8) + 3,
    )
    report = ss.verify(workload, DATA_PARALLEL, steps=1, processes=False)
    assert report.ok
    rounding = [row.name for row in report.rows if row.verdict is Verdict.ROUNDING]
    assert "3.running_mean" in rounding
    assert "1.running_mean" not in rounding
