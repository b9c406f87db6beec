"""Function: the text of one emitted function, line by line, with frees after last uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_CONSTANT = re.compile(r'"((?:group|place|start|index|box|exchange|to|from)\d+)"')


@dataclass
class Line:
    """One statement: the variables it assigns and uses, and a comment to go above it.

    `operators` are the ids of the operators that it runs or prepares something for, `conversions`
    those of the conversions that it is a step of.
    """

    text: str
    assigns: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    comment: str = ""
    operators: tuple[int, ...] = ()
    conversions: tuple[int, ...] = ()


@dataclass
class Function:
    """An emitted function: `reads` are (parameter name, value spec), `writes` (variable, spec).

    `operators` and `conversions` are what the lines that are added next belong to.
    """

    doc: str
    reads: list[tuple[str, str]] = field(default_factory=list)
    writes: list[tuple[str, str]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    operators: tuple[int, ...] = ()
    conversions: tuple[int, ...] = ()

    def read(self, variable: str, spec: str) -> str:
        """The parameter that holds the value `spec`, added when new."""
        for name, known in self.reads:
            if known == spec:
                return name
        taken = {name for name, _ in self.reads}
        while variable in taken:
            variable += "_"
        self.reads.append((variable, spec))
        return variable

    def add(
        self,
        text: str,
        assigns: tuple[str, ...] = (),
        uses: tuple[str, ...] = (),
        comment: str = "",
    ) -> None:
        line = Line(text, assigns, uses, comment, self.operators, self.conversions)
        self.lines.append(line)

    def statements(self) -> Iterator[tuple[Line, tuple[str, ...]]]:
        """Every line, and the variables that are freed after it."""
        last = self._last_uses()
        kept = {*(v for v, _ in self.writes), "_"}
        for i, line in enumerate(self.lines):
            mentioned = sorted({*line.assigns, *line.uses})
            yield line, tuple(v for v in mentioned if last[v] == i and v not in kept)

    def body(self) -> str:
        """Everything below the `def` line."""
        out = [f'    """{self.doc}"""'] if self.doc else []
        comment = ""
        for line, gone in self.statements():
            if line.comment and line.comment != comment:
                out.append(f"    # {line.comment}")
                comment = line.comment
            out.append(f"    {line.text}")
            if gone:
                out.append(f"    del {', '.join(gone)}")
        values = ", ".join(v for v, _ in self.writes)
        out.append(f"    return ({values}{',' if len(self.writes) == 1 else ''})")
        return "\n".join(out)

    def _last_uses(self) -> dict[str, int]:
        last: dict[str, int] = {}
        for i, line in enumerate(self.lines):
            for v in (*line.assigns, *line.uses):
                last[v] = i
        return last

    def constants(self) -> tuple[str, ...]:
        """The names of the constants that the lines mention, sorted."""
        return tuple(sorted({c for line in self.lines for c in _CONSTANT.findall(line.text)}))

    def task_text(self, name: str) -> str:
        """The entry of the TASKS table."""
        reads = ", ".join(f'"{s}"' for _, s in self.reads)
        writes = ", ".join(f'"{s}"' for _, s in self.writes)
        comma_r = "," if len(self.reads) == 1 else ""
        comma_w = "," if len(self.writes) == 1 else ""
        return f'    "{name}": Task({name}, reads=({reads}{comma_r}), writes=({writes}{comma_w})),'

    def text(self, name: str) -> str:
        """The whole function."""
        parameters = ", ".join(["ctx", *(v for v, _ in self.reads)])
        return f"def {name}({parameters}):\n{self.body()}\n"


def spec(name: str, time: tuple[int | tuple[int], ...]) -> str:
    """The text of a value reference: `x`, `x@0,1`, `x@0,#2` (#2: the constant 2)."""
    if not time:
        return name
    return f"{name}@" + ",".join(f"#{t[0]}" if isinstance(t, tuple) else str(t) for t in time)
