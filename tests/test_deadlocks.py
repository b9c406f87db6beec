"""Planted deadlocks: each is found before anything runs, and the message prints the cycle.

Cycles of abstract schedules are in `schedule/test_check.py`, orders of plans that contradict the
data in `test_orders.py`, those of `op_order` in `schedule/test_schedule.py`.
"""

from __future__ import annotations

import re

from planted import Files, alone
from subjects import mlp

from superscaler.emit.validate import validate_files

Entry = tuple[str, tuple[int, ...]]

PIPELINE = "pipeline(pp=2, microbatches=4)"


def cycle(files: Files) -> list[str]:
    """The edges of the only problem, which is a deadlock."""
    (problem,) = validate_files(files)
    assert problem.where == "deadlock"
    first, *edges, way_out = problem.what.splitlines()
    assert first == "these ranks wait for each other and never go on"
    assert way_out == "  change the order of one of these ranks' tasks"
    parts = [re.fullmatch(r"  (.*) (?:waits for|comes after) (rank.*) \(.*\)", e) for e in edges]
    ends = [(p[1], p[2]) for p in parts if p is not None]
    assert len(ends) == len(edges)
    assert all(b == c for (_, b), (c, _) in zip(ends, [*ends[1:], ends[0]]))
    return [edge.strip() for edge in edges]


def moved(files: Files, program: str, entry: Entry, before: Entry) -> Files:
    """A copy in which an entry of a schedule comes right before another."""
    text = files[program]
    lines = [f'    ("{name}", {time}),\n' for name, time in (entry, before)]
    assert text.count(lines[0]) == text.count(lines[1]) == 1
    changed = text.replace(lines[0], "").replace(lines[1], "".join(lines))
    return files | {program: changed}


def test_a_cycle_of_resources() -> None:
    """Rank 0 wants the first gradient before it sends the second microbatch, which rank 1 wants
    before it sends the first gradient."""
    files = mlp().compile(PIPELINE).files
    assert validate_files(files) == []
    files = moved(files, "program_0.py", ("convert_1", (0,)), ("convert_0", (1,)))
    gradient, rows = "(layers.0.fc2.add.bwd) in convert_1", "(layers.0.add) in convert_0"
    assert cycle(files) == [
        f"rank 0: recv of c1 {gradient}(0) waits for "
        f"rank 1: send of add_75 {gradient}_v1(0) (data)",
        f"rank 1: send of add_75 {gradient}_v1(0) comes after "
        f"rank 1: recv of c0 {rows}_v1(1) (resource: the rank's own sequence)",
        f"rank 1: recv of c0 {rows}_v1(1) waits for rank 0: send of add_39 {rows}(1) (data)",
        f"rank 0: send of add_39 {rows}(1) comes after "
        f"rank 0: recv of c1 {gradient}(0) (resource: the rank's own sequence)",
    ]


def test_a_cycle_of_data() -> None:
    """The first stage's forward reads the gradient that the second makes of its output."""
    files = mlp().compile(PIPELINE).files
    for m in range(4):
        files = moved(files, "program_0.py", ("convert_1", (m,)), ("forward_0", (m,)))
    reads = "Task(forward_0, reads=("
    assert reads in files["program_0.py"]
    files["program_0.py"] = files["program_0.py"].replace(reads, reads + '"c1@0", ')
    edges = cycle(files)
    assert len(edges) == 4
    assert edges[1].startswith("rank 1: send of ")
    assert edges[1].endswith("(data: through backward_1(0))") or edges[1].endswith(
        "(data: through forward_1(0), backward_1(0))"
    )
    assert edges[3].endswith("(data: through forward_0(0))")
    assert "resource" not in "".join(edges)


def reductions(files: Files, group: tuple[int, ...]) -> list[str]:
    """The lines of rank 0's own program that reduce over these ranks."""
    names = re.findall(rf"'(group\d+)': {re.escape(str(group))}", files["rank_0.py"])
    pattern = rf'^    [^\n]*ctx\.all_reduce\w*\([^\n]*"(?:{"|".join(names)})"[^\n]*\n'
    return re.findall(pattern, files["program_own.py"], re.MULTILINE)


def test_collectives_of_two_groups_crossed_in_a_task() -> None:
    """One rank of four reduces over its replicas before its partners in the model expect it."""
    files = alone(mlp().compile("hybrid(dp=2, tp=2)").files, 0)
    text = files["program_own.py"]
    tensor, data = reductions(files, (0, 1)), reductions(files, (0, 2))
    wrong = text.replace(data[0], "", 1).replace(tensor[0], data[0] + tensor[0], 1)
    edges = cycle(files | {"program_own.py": wrong})
    assert edges[0].startswith("rank 0: all_reduce of ")
    assert "waits for ranks 1-3: all_reduce of" in edges[0]
    assert all(edge.endswith("(order: lines of one task)") for edge in edges[1::2])


def test_collectives_of_two_groups_crossed_between_tasks() -> None:
    """Rank 0 gathers with all ranks first, rank 2 with rank 0 first."""
    files = alone(mlp().compile("hybrid(dp=2, tp=2, zero=1)").files, 0)
    edges = cycle(moved(files, "program_own.py", ("convert_1", ()), ("convert_0_to_11", ())))
    assert "all_gather" in edges[0]
    assert "waits for ranks 1-3: all_gather" in edges[0]
    assert all(edge.endswith("(resource: the rank's own sequence)") for edge in edges[1::2])


def test_neither_of_two_that_cross_is_the_first_of_its_group() -> None:
    """In a group of four, ranks 1 and 3 wait for each other, whatever rank 0 does."""
    files = alone(mlp().compile("hybrid(dp=2, tp=2, zero=1)").files, 1)
    files["program_one.py"] = files.pop("program_own.py")
    files["rank_1.py"] = files["rank_1.py"].replace("program_own", "program_one")
    files = moved(files, "program_one.py", ("convert_1", ()), ("convert_0_to_11", ()))
    edges = cycle(alone(files, 3))
    assert any(edge.startswith("rank 3: ") and "waits for rank 1: " in edge for edge in edges)
