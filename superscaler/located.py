"""YAML whose errors say the file, the line and the field: plans and clusters are read so."""

from __future__ import annotations

import pathlib
from typing import Any

import yaml

from superscaler.errors import PlanError

Path = tuple[Any, ...]


def read_yaml(path: pathlib.Path, what: str) -> str:
    """The text of a file. Raises PlanError, which begins with `what`, for a file that is none."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise PlanError(
            f"{what}: expected a YAML text file, found bytes that are no text (at {error.start}); "
            "name another file"
        ) from error


class LocatedYaml:
    """`data` as YAML text has it; paths are such as `("links", 0, "latency_us")`.

    Raises PlanError where the text is no YAML.
    """

    def __init__(self, origin: str, text: str) -> None:
        self.origin = origin
        try:
            self.node = yaml.compose(text, Loader=yaml.SafeLoader)
            self._check_keys(self.node, [])
            self.data = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date of month 13, say
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or error
            raise PlanError(f"{origin}{line}: not valid YAML: {problem}") from error

    def _check_keys(self, node: yaml.Node | None, above: list[yaml.Node]) -> None:
        """Raises PlanError where a mapping has a key twice, or something contains itself."""
        if node is None or isinstance(node, yaml.ScalarNode):
            return
        if any(node is other for other in above):
            where = f"{self.origin}, line {node.start_mark.line + 1}"
            raise PlanError(f"{where}: this contains itself; write out what is meant")
        inside = node.value
        if isinstance(node, yaml.MappingNode):
            self._check_names([key for key, _ in node.value])
            inside = [value for _, value in node.value]
        for value in inside:
            self._check_keys(value, [*above, node])

    def _check_names(self, keys: list[yaml.Node]) -> None:
        lines: dict[str, int] = {}
        for key in keys:
            line = key.start_mark.line + 1
            first = lines.get(str(key.value))
            if first is not None:
                raise PlanError(
                    f"{self.origin}, line {line}: {key.value}: this key is on line {first} "
                    "already; leave one of them"
                )
            lines[str(key.value)] = line

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
