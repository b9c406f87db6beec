"""The cache of compiled programs: folders named by what they were compiled from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from superscaler.runtime.failures import ProgramError
from superscaler.runtime.program import read_manifest

_LIST = "content.json"  # the key, and every file's digest


def content_key(*texts: str) -> str:
    """A name for what a program is compiled from: these texts, torch and this compiler."""
    whole = "\0".join((*texts, torch.__version__, _own_code()))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


@cache
def _own_code() -> str:
    """The digest of superscaler's own sources: another compiler may write another program."""
    package = Path(__file__).parents[1]
    found = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        found.update(path.relative_to(package).as_posix().encode())
        found.update(path.read_bytes())
    return found.hexdigest()


class Entry:
    """A folder of the cache."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.was_there = folder.is_dir()
        self._key = key

    def damage(self) -> str | None:
        """What keeps the folder from being used; None if it is whole and current."""
        if not self.was_there:
            return "it was not there"
        try:
            listed = json.loads((self.folder / _LIST).read_text())
            key, digests = listed["key"], dict(listed["files"])
            read_manifest(self.folder)
        except (OSError, ValueError, KeyError, TypeError, ProgramError) as error:
            return f"the cached program is unreadable: {error}"
        if key != self._key:
            return "the cached program is out of date: it was compiled from something else"
        for name, expected in digests.items():
            path = self.folder / name
            if not path.is_file() or digest(path.read_text()) != expected:
                return f"the cached program is out of date: {name} was changed or is missing"
        return None

    def write(self, files: Mapping[str, str]) -> None:
        """Put the program there, whole or not at all."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.folder.with_name(f".{self.folder.name}.{os.getpid()}")
        fresh.mkdir(exist_ok=True)
        for name, text in files.items():
            (fresh / name).write_text(text)
        digests = {name: digest(text) for name, text in sorted(files.items())}
        (fresh / _LIST).write_text(json.dumps({"key": self._key, "files": digests}, indent=1))
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(fresh, self.folder)


def digest(text: str) -> str:
    """A text's digest."""
    return hashlib.sha256(text.encode()).hexdigest()
