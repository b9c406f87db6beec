"""PipelineOrder: what each device does in turn, and its text form."""

from __future__ import annotations

import re
from dataclasses import dataclass

from superscaler.errors import ScheduleError
from superscaler.schedule.problem import Kind

_ACTION = re.compile(r"(F|BW|B|W)(\d+)\.(\d+)(?:'(\d+))?")
_KINDS = {k.value: k for k in (Kind.FORWARD, Kind.FUSED, Kind.BACKWARD, Kind.WEIGHT)}


@dataclass(frozen=True, slots=True, order=True)
class Action:
    """One macro task: `F0.3` is the forward of stage 0 on microbatch 3."""

    kind: Kind
    stage: int
    microbatch: int
    chain: int = 0

    def __str__(self) -> str:
        mark = f"'{self.chain}" if self.chain else ""
        return f"{self.kind}{self.stage}.{self.microbatch}{mark}"


@dataclass(frozen=True)
class PipelineOrder:
    """A line of actions for each device (or group of devices that act as one)."""

    name: str
    lines: tuple[tuple[Action, ...], ...]

    def __str__(self) -> str:
        return "\n".join(" ".join(str(a) for a in line) for line in self.lines)


def parse_order(text: str, name: str = "order") -> PipelineOrder:
    """An order from its text, one line per device.

    What several devices do together is on the line of each. Raises ScheduleError naming the line
    and the action that is malformed or there twice.

    >>> str(parse_order("F0.0 BW0.0"))
    'F0.0 BW0.0'
    """
    lines = []
    for number, line in enumerate(text.strip().splitlines(), 1):
        lines.append(tuple(_action(word, f"{name}, line {number}") for word in line.split()))
    for number, actions in enumerate(lines, 1):
        seen: set[Action] = set()
        for action in actions:
            if action in seen:
                raise ScheduleError(f"{name}, line {number}: {action} is there twice; it runs once")
            seen.add(action)
    return PipelineOrder(name, tuple(lines))


def _action(word: str, where: str) -> Action:
    found = _ACTION.fullmatch(word)
    if found is None:
        raise ScheduleError(
            f"{where}: expected an action such as F0.3 (F, B, W or BW, stage, microbatch), "
            f"found {word!r}"
        )
    kind, stage, microbatch, chain = found.groups()
    return Action(_KINDS[kind], int(stage), int(microbatch), int(chain or 0))
