"""What may import what, and how long a file may be."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "superscaler"
MOST_LINES = 450

# Each package may import those before it, `errors` and itself.
LAYERS = [
    "dtypes",
    "units",
    "garbage",
    "graph",
    "precision",
    "model_copy",
    "settings",
    "user_code",
    "workload",
    "runtime",
    "ops",
    "located",
    "plan",
]
LAYERS += ["cluster", "trace", "transform", "schedule", "materialize", "emit", "simulate"]
LAYERS += [
    "search",
    "measure",
    "policies",
    "compiler",
    "view",
    "verify",
    "parallelize",
    "cli",
    "__main__",
]

FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it; not those for annotations only."""
    found = set()
    tree = ast.parse(path.read_text())
    typing = [
        n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)
    ]
    skipped = {inner for n in typing for inner in ast.walk(n)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            is_root = node.module == "superscaler"
            found.update(
                f"superscaler.{alias.name}" if is_root else node.module for alias in node.names
            )
    return found


def own(path: Path) -> set[str]:
    """The packages of ours that a file imports."""
    return {m.split(".")[1] for m in imports(path) if m.startswith("superscaler.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path: Path) -> None:
    here = layer_of(path)
    if here in ("errors", "plans"):
        assert own(path) <= {here}
        return
    allowed = {*LAYERS[: LAYERS.index(here) + 1], "errors"}
    assert own(path) <= allowed


def test_the_runtime_imports_torch_and_the_standard_library() -> None:
    optional = "safetensors"  # to read checkpoints of that format
    allowed = {*sys.stdlib_module_names, "torch", "superscaler", optional}
    for path in (PACKAGE / "runtime").rglob("*.py"):
        assert {m.split(".")[0] for m in imports(path)} <= allowed, path
        assert own(path) <= {"runtime", "errors", "dtypes", "user_code", "workload"}, path


def test_examples_use_public_names() -> None:
    for path in (ROOT / "examples").rglob("*.py"):
        assert {m for m in imports(path) if m.startswith("superscaler.")} <= {
            "superscaler.policies"
        }, path


def test_policies_use_public_names() -> None:
    for path in (PACKAGE / "policies").rglob("*.py"):
        assert own(path) <= {"errors", "plan", "policies"}, path


@pytest.mark.parametrize("folder", ["superscaler", "tests", "tools", "examples"])
def test_files_are_short(folder: str) -> None:
    long = {
        str(p): n
        for p in (ROOT / folder).rglob("*.py")
        if (n := len(p.read_text().splitlines())) > MOST_LINES
    }
    assert long == {}
