"""YAML whose errors say the file, the line and the field: plans and clusters are read so."""

from __future__ import annotations

from typing import Any

import yaml

from superscaler.errors import PlanError

Path = tuple[Any, ...]


class LocatedYaml:
    """`data` as YAML text has it; paths are such as `("links", 0, "latency_us")`.

    Raises PlanError where the text is no YAML.
    """

    def __init__(self, origin: str, text: str) -> None:
        self.origin = origin
        try:
            self.node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise PlanError(
                f"{origin}{line}: not valid YAML: {getattr(error, 'problem', error)}"
            ) from error

    def fail(self, path: Path, message: str) -> PlanError:
        """The error about the field at `path`."""
        name = ".".join(str(p) for p in path)
        where = f"{self.origin}, line {self.line(path)}"
        return PlanError(f"{where}: {name + ': ' if name else ''}{message}")

    def line(self, path: Path) -> int:
        """The line of the field at `path` (of its parent when it is missing)."""
        node = self.node
        line = node.start_mark.line + 1 if node is not None else 1
        for key in path:
            found = None
            if isinstance(node, yaml.MappingNode):
                found = next((v for k, v in node.value if k.value == str(key)), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                found = node.value[key] if key < len(node.value) else None
            if found is None:
                break
            node, line = found, found.start_mark.line + 1
        return line

    def known(
        self, path: Path, value: Any, known: tuple[str, ...], required: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """A mapping of known fields."""
        if not isinstance(value, dict):
            raise self.fail(path, f"expected a mapping, found {value!r}")
        for key in value:
            if key not in known:
                raise self.fail((*path, key), f"unknown field; known: {', '.join(known)}")
        for key in required:
            if key not in value:
                raise self.fail((*path, key), "this field is missing")
        return value
