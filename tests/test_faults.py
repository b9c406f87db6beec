"""Seeded faults: each is caught in the text by `validate_files`, or in the numbers by `verify`."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from planted import Files, alone, edit
from subjects import gpt, mlp

from superscaler.emit.validate import validate_files
from superscaler.errors import InvalidProgramError, SuperScalerError
from superscaler.plan import Plan
from superscaler.runtime.failures import CommunicationError
from superscaler.transform import Replicate, Split, op_assign, op_trans, start
from superscaler.verify import Report


def problems(files: Files) -> str:
    return "\n".join(str(p) for p in validate_files(files))


def is_refused(report: Callable[[], Report]) -> bool:
    """Whether a run fails, or its numbers differ."""
    try:
        return not report().ok
    except (SuperScalerError, CommunicationError):
        return True


TENSOR, PIPELINE, DATA = "megatron(tp=2)", "pipeline(pp=2, microbatches=4)", "data_parallel(dp=2)"
FSDP = "hybrid(dp=2, tp=2, zero=3)"


@pytest.mark.parametrize(
    "plan", [TENSOR, PIPELINE, DATA, FSDP, "hybrid(dp=2, pp=2, microbatches=2, zero=2)"]
)
def test_programs_without_faults_are_valid(plan: str) -> None:
    program = mlp().compile(plan)
    assert program.validate() == []


# caught in the text


def test_collectives_in_another_order_on_one_rank() -> None:
    """Two reductions of equal size: nothing would hang, the numbers would be wrong."""
    files = alone(gpt().compile(TENSOR).files, 1)
    text = files["program_own.py"]
    found = re.findall(r'^    (\w+) = ctx\.all_reduce\((\w+), "(\w+)"', text, re.MULTILINE)
    (first, source, group), (second, other, _) = found[:2]
    pattern = rf"{first} = ctx\.all_reduce\({source}, [^)]*\)"
    swapped = edit(
        files, "program_own.py", pattern, f'{second} = ctx.all_reduce({source}, "{group}")'
    )
    found_problems = problems(swapped)
    assert "collective 0 of ranks [0, 1]" in found_problems
    assert f"rank 1 calls all_reduce of {second}" in found_problems
    assert other


def test_messages_in_another_order_on_one_rank() -> None:
    files = mlp().compile(PIPELINE).files
    name = next(n for n in ("program_0.py", "program_1.py") if "ctx.recv" in files[n])
    schedule = re.search(r"SCHEDULE = \[\n(.*?)\n\]", files[name], re.DOTALL)
    assert schedule is not None
    lines = schedule[1].splitlines()
    first, second = [i for i, line in enumerate(lines) if "convert" in line][:2]
    lines[first], lines[second] = lines[second], lines[first]
    text = files[name].replace(schedule[1], "\n".join(lines))
    assert "the receiver expects" in problems(files | {name: text})


def test_a_dropped_send() -> None:
    files = mlp().compile(PIPELINE).files
    dropped = edit(files, "program_0.py", r"    ctx\.send\([^\n]*\n", "")
    assert "which never sends it" in problems(dropped)


def test_a_dropped_receive() -> None:
    files = mlp().compile(PIPELINE).files
    dropped = edit(files, "program_0.py", r"(\w+) = ctx\.recv\([^\n]*\n", r"\1 = None\n")
    assert "which never receives it" in problems(dropped)


def test_a_group_without_one_of_its_ranks() -> None:
    files = mlp().compile(FSDP).files
    wrong = edit(files, "rank_1.py", r"'group0': \([^)]*\)", "'group0': (1,)")
    assert "rank 1 calls nothing with these ranks" in problems(wrong)


def test_a_group_of_other_ranks() -> None:
    files = mlp().compile(FSDP).files
    wrong = edit(files, "rank_1.py", r"'group0': \([^)]*\)", "'group0': (2, 3)")
    assert "group0 should be a group that this rank is in" in problems(wrong)


def test_a_store_in_place_of_a_sum() -> None:
    files = mlp().compile(PIPELINE).files
    name = next(n for n in ("program_0.py", "program_1.py") if '_sum+"' in files[n])
    wrong = edit(files, name, r'_sum\+"', '_sum"')
    assert "which has a value already" in problems(wrong)


def test_a_missing_conversion() -> None:
    files = mlp().compile("zero(dp=2, stage=1)").files
    wrong = edit(files, "program_0.py", r'    \("convert_\w+", \(\)\),\n', "")
    assert "which nothing has written before" in problems(wrong)


def test_a_missing_update() -> None:
    files = mlp().compile(DATA).files
    wrong = edit(
        files, "program_0.py", r'ctx\.optimizer_step\(\{("\w+"): \w+, ', "ctx.optimizer_step({"
    )
    assert "is updated 0 times in a step" in problems(wrong)


def test_a_box_of_a_parameter_off_by_one() -> None:
    files = mlp().compile(TENSOR).files
    wrong = edit(files, "rank_1.py", r"\(\(16, 32\),\)", "((15, 31),)")
    assert "is not in the manifest" in problems(wrong)


def test_a_part_number_out_of_range() -> None:
    wrong = edit(chunked_program(), "rank_1.py", r"'place(\d+)': 1", r"'place\1': 2")
    assert "does not fit chunk" in problems(wrong)


def test_an_exchange_of_another_box() -> None:
    uneven = uneven_program()
    assert problems(uneven) == ""
    assert "exchange" in uneven["program_0.py"]
    wrong = edit(
        uneven, "rank_1.py", r"'recv': \[\((\d+), \(\((\d+), \d+\)", r"'recv': [(\1, ((\2, 99)"
    )
    assert "the receiver expects" in problems(wrong)


def uneven_program() -> Files:
    """Two products of ten rows in three uneven parts, on other devices each."""
    subject = mlp(batch=10)
    partition = start(subject.graph, subject.axes)
    for name, devices in (("layers.0.fc1.mm", [0, 1, 2]), ("layers.1.fc1.mm", [2, 0, 1])):
        partition = op_trans(partition, name, Split("batch", 3, uneven=True))
        partition = op_assign(partition, name, devices)
    return subject.compile(partition).files


def chunked_program() -> Files:
    """A product is made twice, on two devices; its reader takes half of the rows on each."""
    partition = start(mlp().graph, mlp().axes)
    partition = op_trans(partition, "layers.0.fc1.mm", Replicate(2))
    partition = op_trans(partition, "layers.0.fc1.add", Split("batch", 2))
    for name in ("layers.0.fc1.mm", "layers.0.fc1.add"):
        partition = op_assign(partition, name, [0, 1])
    return mlp().compile(partition).files


def test_compile_raises_what_validate_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    import superscaler.compiler as compiler

    write = compiler.write_files

    def broken(*arguments: object) -> Files:
        return edit(write(*arguments), "program_0.py", r"    ctx\.send\([^\n]*\n", "")  # type: ignore[arg-type]

    monkeypatch.setattr(compiler, "write_files", broken)
    with pytest.raises(
        InvalidProgramError, match=r"the emitted program is not valid:\n.*never sends it"
    ):
        mlp().compile(PIPELINE)


# caught in the numbers


def test_a_dropped_reduction() -> None:
    files = mlp().compile(TENSOR).files
    wrong = edit(files, "program_0.py", r"ctx\.all_reduce\((\w+), [^)]*\)", r"\1")
    assert is_refused(lambda: mlp().check(wrong))


def test_a_wrong_part_of_the_batch() -> None:
    files = mlp().compile(DATA).files
    wrong = edit(files, "rank_1.py", r"\(\(4, 8\),\)", "((0, 4),)", count=0)
    assert is_refused(lambda: mlp().check(wrong))


def test_a_wrong_start() -> None:
    """The vocabulary's second half starts one token early."""
    plan = (
        "splits: [{axis: 'tokens.weight:0', dim: tp}]\nstages: [{devices: [0, 1], mesh: {tp: 2}}]"
    )
    subject = gpt()
    files = subject.compile(Plan.from_yaml(plan)).files
    start = re.search(r"'start(\d+)': (\d+)", files["rank_1.py"])
    assert start is not None
    early = f"'start{start[1]}': {int(start[2]) - 1}"
    wrong = edit(files, "rank_1.py", start[0], early)
    assert problems(wrong) == ""
    assert is_refused(lambda: subject.check(wrong))


def test_a_wrong_scale() -> None:
    files = mlp().compile(DATA).files
    wrong = edit(files, "program_0.py", r"(aten\.(?:mul|div)\.\w+\(\w+, )([\d.]+)\)", r"\g<1>3.0)")
    assert problems(wrong) == ""
    assert is_refused(lambda: mlp().check(wrong))


def test_a_maximum_in_place_of_a_sum() -> None:
    files = mlp().compile(TENSOR).files
    wrong = edit(files, "program_0.py", r'(ctx\.all_reduce\(\w+, "\w+")', r'\1, op="max"')
    assert problems(wrong) == ""
    assert is_refused(lambda: mlp().check(wrong))


def test_the_other_half_of_a_chunk() -> None:
    assert mlp().check(chunked_program()).ok
    wrong = edit(chunked_program(), "rank_1.py", r"'place(\d+)': 1", r"'place\1': 0")
    assert problems(wrong) == ""
    assert is_refused(lambda: mlp().check(wrong))
