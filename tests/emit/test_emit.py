"""Emitted programs: the text itself, and that it is the same every time."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from subjects import gpt, mlp

import superscaler as ss
from superscaler.compiler import CompiledProgram
from superscaler.errors import MaterializeError
from superscaler.runtime.by_time import is_table

GOLDEN = Path(__file__).parents[1] / "golden"


def listing(program: CompiledProgram) -> str:
    """The program files and rank 0's constants."""
    names = sorted(n for n in program.files if n.startswith("program_"))
    return "\n".join(f"### {n}\n{program.files[n]}" for n in [*names, "rank_0.py"])


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("emitted_tensor_parallel", "megatron(tp=2)"),
        ("emitted_pipeline", "pipeline(pp=2, microbatches=2)"),
    ],
)
def test_golden(name: str, plan: str, update_golden: bool) -> None:
    """`pytest --update-golden` writes the files anew."""
    text = listing(mlp(layers=1).compile(plan))
    path = GOLDEN / f"{name}.txt"
    if update_golden:
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(
    "plan", ["hybrid(dp=2, tp=2, pp=2, microbatches=2, zero=2)", "zero(dp=2, stage=3)"]
)
def test_compiling_twice_gives_the_same_bytes(plan: str) -> None:
    assert gpt().compile(plan).files == gpt().compile(plan).files


def test_constants_that_differ_by_time_have_a_line_for_each_time() -> None:
    text = gpt().compile("context_parallel(cp=2, ring=True)").files["rank_0.py"]
    inside = text[text.index("CONSTANTS = ") : text.index("PARAMETERS = ")]
    constants = ast.literal_eval(inside.removeprefix("CONSTANTS = "))
    tables = [value for value in constants.values() if is_table(value)]
    assert tables
    assert len(inside.splitlines()) == 2 + len(constants) + sum(len(t) + 1 for t in tables)


def test_ranks_with_equal_code_share_it() -> None:
    program = gpt().compile("hybrid(dp=2, tp=2, pp=2, microbatches=2)")
    assert (program.world_size, program.num_programs) == (8, 2)


def test_save_replaces_an_earlier_program(tmp_path: Path) -> None:
    mlp().compile("data_parallel(dp=4)").save(tmp_path)
    program = mlp().compile("data_parallel(dp=2)")
    program.save(tmp_path)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == program.files


def test_save_leaves_what_is_no_programs(tmp_path: Path) -> None:
    program = mlp().compile("data_parallel(dp=2)")
    program.save(tmp_path)
    (tmp_path / "rank_losses.py").write_text("mine")
    mlp().compile("data_parallel(dp=1)").save(tmp_path)
    assert (tmp_path / "rank_losses.py").read_text() == "mine"
    assert not (tmp_path / "rank_1.py").exists()


def test_a_program_without_a_plan_leaves_none_of_the_one_before(tmp_path: Path) -> None:
    mlp().compile("data_parallel(dp=2)").save(tmp_path)
    assert (tmp_path / "plan.yaml").exists()
    graph = mlp().graph
    by_hand = ss.op_assign(ss.start(graph), ss.select(graph, "**"), 0)
    mlp().compile(by_hand).save(tmp_path)
    assert not (tmp_path / "plan.yaml").exists()


def test_save_overwrites_no_file_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("mine")
    (tmp_path / "manifest.json").write_text("[1]")
    with pytest.raises(MaterializeError, match=r"has manifest.json, plan.yaml, and no manifest"):
        mlp().compile("data_parallel(dp=2)").save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"plan.yaml", "manifest.json"}
    with pytest.raises(MaterializeError, match=r"plan.yaml is a file; name a folder"):
        mlp().compile("data_parallel(dp=2)").save(tmp_path / "plan.yaml")


def test_emitted_lines_name_module_and_source() -> None:
    text = mlp().compile("data_parallel(dp=2)").files["program_0.py"]
    assert "# layers.0.fc1  mlp.py:" in text
    assert "partial sum over dp -> " in text
