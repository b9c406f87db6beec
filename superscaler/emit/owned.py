"""The tables of what each rank owns: its parts of parameters, buffers and batch leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from superscaler.emit.local import PartIndex
from superscaler.graph.tensor import HOST, TensorKind
from superscaler.materialize.program import Own, Program
from superscaler.runtime.by_time import Time
from superscaler.transform.layout import Layout
from superscaler.transform.partition import Grid

Part = tuple[int, ...]
TABLES = {TensorKind.INPUT: "INPUTS", TensorKind.BUFFER: "BUFFERS", TensorKind.PARAM: "PARAMETERS"}


@dataclass
class OwnedTables:
    """Texts of the tables' entries by rank; equal parts on many ranks are written once.

    `state_layout`: parameter or buffer -> [rank, slots, box] of each different part, by the first
    rank that holds it.
    """

    program: Program
    parts: dict[object, PartIndex]
    by_rank: dict[int, list[Own]] = field(default_factory=dict)
    texts: dict[object, str] = field(default_factory=dict)
    state_layout: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.program.partition.graph
        self.with_host_states = {
            u.param
            for u in graph.updates
            if any(graph.tensors[t].memory == HOST for _, t, _ in u.states)
        }
        by_grid: dict[object, tuple[Grid, list[Own]]] = {}
        for own in self.program.owned:
            grid = own.layout.grid
            by_grid.setdefault(grid.key, (grid, []))[1].append(own)
        for grid, owned in by_grid.values():
            for rank in sorted(set(grid.devices.ravel().tolist())):
                self.by_rank.setdefault(rank, []).extend(owned)

    def tables(self, rank: int) -> str:
        """The PARAMETERS, BUFFERS and INPUTS of a rank, as Python source."""
        entries: dict[str, list[str]] = {name: [] for name in ("PARAMETERS", "BUFFERS", "INPUTS")}
        tensors = self.program.partition.graph.tensors
        for own in self.by_rank.get(rank, ()):
            table = TABLES.get(tensors[own.tensor].kind)
            if table is not None:  # the real optimizer keeps its own state
                entries[table] += self._entries(own, rank)
        return "\n".join(f"{name} = {_list_text(lines)}" for name, lines in entries.items())

    def _entries(self, own: Own, rank: int) -> Iterator[str]:
        grid = own.layout.grid
        index = self.parts.setdefault(grid.key, PartIndex(grid, {}))
        for key in product(*(range(grid.time_shape[k]) for k in own.keys)):
            time = [0] * len(grid.time_dims)
            for k, i in zip(own.keys, key):
                time[k] = i
            part = index.find(rank, tuple(time))
            if part is not None:
                yield self._entry(own, key, own.layout, part, rank)

    def _entry(self, own: Own, key: Time, layout: Layout, part: Part, rank: int) -> str:
        split = tuple(i for i, role in zip(part, layout.roles) if role >= 0)
        memo = (own.name, key, split)
        if memo not in self.texts:
            self.texts[memo] = self._text(own, key, layout, part, rank)
        return self.texts[memo]

    def _text(self, own: Own, key: Time, layout: Layout, part: Part, rank: int) -> str:
        partition = self.program.partition
        tensor = partition.graph.tensors[own.tensor]
        name = (
            partition.graph.batch.index(tensor.id)
            if tensor.kind is TensorKind.INPUT
            else tensor.name
        )
        entry = {
            "key": (own.name, key),
            "name": name,
            "slots": partition.axes.dims_of(tensor.id, layout.sizes),
            "box": partition.axes.dims_of(tensor.id, layout.box(part)),
        }
        if tensor.kind is not TensorKind.INPUT:
            places = self.state_layout.setdefault(tensor.name, [])
            if not any(box == entry["box"] for _, _, box in places):
                places.append([rank, entry["slots"], entry["box"]])
        entry |= {"trained": True} if own.trained else {}
        entry |= {"memory": HOST} if tensor.memory == HOST else {}
        entry |= {"states": HOST} if own.tensor in self.with_host_states else {}
        return repr(entry)


def _list_text(lines: list[str]) -> str:
    return "[\n" + "".join(f"    {line},\n" for line in lines) + "]" if lines else "[]"
