"""Loading programs: folders, memory, and what is wrong with them."""

import json

import pytest
import torch
from emitted import linear_program

from superscaler.runtime import load_rank, load_ranks, read_manifest
from superscaler.runtime.failures import ProgramError


def test_a_folder_and_a_dict_load_alike(tmp_path):
    files = linear_program(2)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    from_folder, from_memory = load_rank(tmp_path, 1), load_rank(files, 1)
    assert from_folder.parameters == from_memory.parameters
    assert from_folder.schedule == from_memory.schedule
    assert from_folder.world_size == 2


def test_ranks_with_equal_code_share_it():
    first, second = load_ranks(linear_program(2))
    assert first.tasks is second.tasks


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProgramError, match=r"manifest.json is missing: this is no program folder"):
        read_manifest(tmp_path)
    files = linear_program(2)
    del files["rank_1.py"]
    with pytest.raises(ProgramError, match=r"rank_1.py is missing"):
        load_rank(files, 1)


def test_a_rank_outside_the_world_is_refused():
    with pytest.raises(ProgramError, match="rank 2: the program has ranks 0 to 1"):
        load_rank(linear_program(2), 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"torch": "1.13.0"}, "was compiled with torch 1.13.0, this is torch"),
        ({"format": 99}, "is of format 99, this version of superscaler reads format 4"),
        ({"world_size": "four"}, "has no field 'world_size' of type int"),
    ],
)
def test_a_stale_or_malformed_manifest_is_refused(change, message):
    files = linear_program(1)
    manifest = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps({**manifest, **change})
    with pytest.raises(ProgramError, match=message):
        load_rank(files, 0)


def test_text_that_is_no_json_or_python_is_refused():
    files = linear_program(1)
    with pytest.raises(ProgramError, match=r"manifest.json is not JSON"):
        load_rank({**files, "manifest.json": "{"}, 0)
    with pytest.raises(ProgramError, match=r"program_0.py cannot be loaded: invalid syntax"):
        load_rank({**files, "program_0.py": "def def"}, 0)
    with pytest.raises(ProgramError, match=r"rank_0.py is malformed: KeyError 'PROGRAM'"):
        load_rank({**files, "rank_0.py": ""}, 0)


def test_the_torch_that_compiled_it_may_differ_in_the_minor_version():
    files = linear_program(1)
    manifest = json.loads(files["manifest.json"])
    major = torch.__version__.split(".")[0]
    files["manifest.json"] = json.dumps({**manifest, "torch": f"{major}.0.0"})
    assert load_rank(files, 0).rank == 0
