"""Listing: the functions of a program, and each rank's list of calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from superscaler.emit.emission import Emission
from superscaler.emit.function import Function
from superscaler.runtime.by_time import Time

Entry = tuple[str, Time]  # function name, time index


@dataclass
class Listing:
    """The functions of a program by name, and each rank's schedule."""

    emission: Emission
    functions: dict[str, Function] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)  # function text (without its name) -> name
    schedules: dict[int, list[Entry]] = field(default_factory=dict)
    segment_of: dict[str, int] = field(default_factory=dict)
    copies_of: dict[str, int] = field(default_factory=dict)  # settling function -> whose copies

    def place(self, base: str, function: Function) -> str:
        """The name of `function`: an equal one's, or a new one that starts with `base`."""
        text = base + "|" + function.text("_") + function.task_text("_")
        if text not in self.texts:
            variants = sum(
                1 for name in self.functions if name == base or name.startswith(base + "_v")
            )
            name = base if not variants else f"{base}_v{variants}"
            self.texts[text] = name
            self.functions[name] = function
        return self.texts[text]
