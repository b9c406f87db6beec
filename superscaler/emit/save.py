"""Save: a program's files in a folder, in place of the program there, and of nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from superscaler.errors import MaterializeError

_WRITTEN = re.compile(r"(program|rank)_\d+\.py|plan\.yaml")


def save_files(files: Mapping[str, str], folder: Path) -> Path:
    """Write texts by name.

    Raises MaterializeError, and writes nothing, when the folder has files of these names without a
    program's manifest.
    """
    if folder.exists() and not folder.is_dir():
        raise MaterializeError(f"{folder} is a file; name a folder for the program")
    old = _program_in(folder)
    if old is None and (in_the_way := sorted(name for name in files if (folder / name).exists())):
        raise MaterializeError(
            f"{folder} has {', '.join(in_the_way[:4])}, and no manifest.json of a program: "
            "nothing was written; name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path in old or ():
        path.unlink()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def _program_in(folder: Path) -> list[Path] | None:
    """What a program's manifest stands for in a folder; None where there is no program."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or "world_size" not in manifest:
        return None
    return [path for path in folder.iterdir() if _WRITTEN.fullmatch(path.name)]
