"""Runs of operators that go through torch.compile: which there are, and that they are exact."""

from __future__ import annotations

import ast

import pytest
import torch
from subjects import gpt, mlp
from torch._inductor import config as inductor

from superscaler.errors import VerifyError
from superscaler.runtime import load_rank
from superscaler.runtime.failures import ProgramError
from superscaler.runtime.runs import compiled_run, with_runs
from superscaler.verify import verify, verify_program

PROGRAM = """
def task(ctx, x, w, v):
    # layers.0.fc1  model.py:3, in forward
    t = aten.t.default(w)
    mm = aten.mm.default(x, t)
    del t
    # layers.0.fc2  model.py:4, in forward
    gelu = aten.gelu.default(mm)
    del mm, w
    # layers.1.fc1  model.py:3, in forward
    s = aten.t.default(v)
    mn = aten.mm.default(gelu, s)
    del s, gelu
    # layers.1.fc2  model.py:4, in forward
    gely = aten.gelu.default(mn)
    del mn, v
    # layers.1: partial sum over tp -> whole
    c = ctx.all_reduce(gely, "group0")
    del gely
    c = ctx.wait(c)
    # (top)  model.py:9, in step
    zero = aten.neg.default(c)
    one = aten.add.Tensor(zero, ctx["start0"])
    two = ss.attention.default(one, c)
    three = aten.mul.Tensor(two, float("inf"))
    four = aten.mul.Tensor(three, one)
    five = aten.neg.default(torch.ops.mine.f.default(four))
    return (c, five)
"""

REWRITTEN = """
def task(ctx, x, w, v):
    gelu, = _run0(w, x)
    del w
    gely, = _run0(v, gelu)
    del gelu, v
    c = ctx.all_reduce(gely, 'group0')
    del gely
    c = ctx.wait(c)
    zero = aten.neg.default(c)
    one = aten.add.Tensor(zero, ctx['start0'])
    two = ss.attention.default(one, c)
    four, = _run1(two, one)
    five = aten.neg.default(torch.ops.mine.f.default(four))
    return (c, five)
"""


def test_operators_in_a_row_are_a_run_and_equal_layers_equal_runs() -> None:
    tree, runs = with_runs(ast.parse(PROGRAM), PROGRAM)
    assert ast.unparse(tree) == REWRITTEN.strip()
    assert list(runs) == ["_run0", "_run1"]


def test_a_variable_may_be_assigned_again_and_others_deleted() -> None:
    text = (
        "def task(ctx, x, y):\n    x = aten.neg.default(x)\n    del y\n"
        "    z = aten.neg.default(x)\n    return (x, z)"
    )
    tree, _ = with_runs(ast.parse(text), text)
    lines = ast.unparse(tree).splitlines()
    assert lines[1:3] == ["    x, z = _run0(x)", "    del y"]


def test_runs_do_not_grow_with_the_layers() -> None:
    def count(layers: int) -> int:
        text = gpt(layers=layers).compile("hybrid(tp=2)").files["program_0.py"]
        return len(with_runs(ast.parse(text), text)[1])

    assert count(4) == count(3)


def test_a_run_is_compiled_for_each_form(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def compiled(function: object, **options: object) -> object:
        made.append(str(options))
        return function

    monkeypatch.setattr(torch, "compile", compiled)
    run = compiled_run("def run(x0):\n    x1 = aten.add.Tensor(x0, 7)\n    return (x1, )\n")
    for size in (2, 3, 2, 3):
        assert run(torch.zeros(size))[0].tolist() == size * [7.0]
    assert made == ["{'fullgraph': True, 'dynamic': False}"] * 2


def test_what_cannot_be_compiled_says_what_to_do() -> None:
    """By torch's own error, of a compiler that is not there."""
    run = compiled_run("def run(x0):\n    x1 = aten.sin.default(x0)\n    return (x1, )\n")
    lacking = {"cpp.cxx": (None, "/nowhere/g++"), "force_disable_caches": True}
    with (
        inductor.patch(lacking),
        pytest.raises(ProgramError, match=r"1 operators in a row \(InductorError: .*C\+\+ comp"),
    ):
        run(torch.zeros(1000))


def test_what_cannot_be_traced_says_what_to_do() -> None:
    run = compiled_run("def run(x0):\n    x1 = print(x0)\n    return (x1, )\n")
    with pytest.raises(ProgramError, match=r"1 operators in a row \(Unsupported: .*torch_compile"):
        run(torch.zeros(2))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("2 GiB more"), RuntimeError("device-side assert triggered")]
)
def test_errors_of_operators_are_not_blamed_on_compiling(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def compiled(*given: object) -> object:
        raise error

    monkeypatch.setattr(torch, "compile", lambda *_, **__: compiled)
    run = compiled_run("def run(x0):\n    x1 = aten.add.Tensor(x0, 9)\n    return (x1, )\n")
    with pytest.raises(type(error)) as caught:
        run(torch.zeros(2))
    assert caught.value is error


def test_threads_are_refused() -> None:
    files = mlp().compile("data_parallel(dp=2)").files
    with pytest.raises(VerifyError, match="leave out --in-process"):
        verify_program(mlp().workload, files, processes=False, torch_compile=True)


def test_threads_are_refused_before_anything_is_done() -> None:
    said: list[str] = []
    how = {"processes": False, "torch_compile": True, "say": said.append}
    with pytest.raises(VerifyError, match="leave out --in-process"):
        verify(mlp().workload, "data_parallel(dp=2)", **how)  # type: ignore[arg-type]
    assert said == []


def test_a_program_is_as_it_was_unless_it_is_asked_for() -> None:
    files = mlp().compile("data_parallel(dp=2)").files
    names = [task.function.__code__.co_names for task in load_rank(files, 0).tasks.values()]
    assert not any("_run0" in found for found in names)
    names = [task.function.__code__.co_names for task in load_rank(files, 0, True).tasks.values()]
    assert any("_run0" in found for found in names)


@pytest.mark.dist
@pytest.mark.parametrize("plan", ["hybrid(dp=2, zero=3, microbatches=2, recompute='layers.*')"])
def test_compiled_ranks_are_exact(plan: str) -> None:
    subject = gpt(layers=2)
    files = subject.compile(plan).files
    report = verify_program(subject.workload, files, expected=subject.expected, torch_compile=True)
    assert report.ok, report.summary
