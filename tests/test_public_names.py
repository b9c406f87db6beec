"""The public names: complete, lazy, and not hidden by the subpackages of the same name."""

from __future__ import annotations

import subprocess
import sys

import superscaler as ss


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_every_public_name_is_there() -> None:
    assert [name for name in ss.__all__ if getattr(ss, name, None) is None] == []
    assert set(ss.__all__) <= set(dir(ss))


def test_the_types_of_what_functions_take_and_return() -> None:
    assert ss.Graph.__name__ == "Graph"
    assert {ss.Partition, ss.CompiledProgram, ss.Simulation, ss.PlanStage, ss.PlanSplit}


def test_importing_the_package_loads_nothing() -> None:
    code = (
        "import sys, superscaler; print([m for m in sys.modules if m.startswith('superscaler.')])"
    )
    assert run(code) == "[]"


def test_the_runtime_does_not_load_the_compiler() -> None:
    code = """
import sys, superscaler.runtime
loaded = {m.split('.')[1] for m in sys.modules if m.startswith('superscaler.')}
print(sorted(loaded), {'ortools', 'yaml', 'rich', 'typer'} & set(sys.modules))
"""
    assert run(code) == "['dtypes', 'errors', 'runtime'] set()"


def test_a_function_wins_over_the_subpackage_of_its_name() -> None:
    code = """
import superscaler.trace, superscaler as ss
from superscaler.trace import trace
print(ss.trace is trace, callable(ss.trace))
"""
    assert run(code) == "True True"
    code = "import superscaler as ss; f = ss.trace; import superscaler.trace; print(ss.trace is f)"
    assert run(code) == "True"


def test_an_unknown_name() -> None:
    assert run("import superscaler as ss; print(hasattr(ss, 'nothing'))") == "False"
