"""Functions: what each function of a program consists of, for people."""

from __future__ import annotations

from collections.abc import Sequence

from superscaler.emit.function import Line
from superscaler.simulate.events.fold import Network
from superscaler.simulate.events.meet import Met
from superscaler.simulate.recording.record import Kernel, Post, Record, Run
from superscaler.simulate.scripts.maker import ScriptMaker
from superscaler.simulate.scripts.script import SHARING
from superscaler.simulate.simulation import FunctionInfo, OperatorInfo


def functions_of(
    maker: ScriptMaker,
    network: Network,
    met: Sequence[Met],
    classes: Sequence[tuple[int, ...]],
) -> tuple[tuple[FunctionInfo, ...], dict[str, int]]:
    """Every function that some rank calls, in order of name's first call, and their numbers."""
    us = _communication_us(network, met, classes)
    found: list[FunctionInfo] = []
    numbers: dict[str, int] = {}
    for script in network.scripts:
        for call in script.calls:
            name = call.function
            if name in numbers:
                continue
            numbers[name] = len(found)
            kind, stage = maker.labels.of_function(name)
            if name == SHARING:
                found.append(FunctionInfo(name, kind, stage, "the results come to all ranks", ()))
                continue
            record = next(iter(maker.records[name].values()))
            doc = maker.listing.functions[name].doc
            infos = tuple(_operators(maker, name, record, us))
            found.append(FunctionInfo(name, kind, stage, doc, infos))
    return tuple(found), numbers


def _communication_us(
    network: Network, met: Sequence[Met], classes: Sequence[tuple[int, ...]]
) -> dict[tuple[str, int], float]:
    """(function, line) -> how long the communication that starts there takes."""
    found: dict[tuple[str, int], float] = {}
    for meeting in met:
        for c, post, _ in meeting.parts:
            script = network.scripts[network.script_of[classes[c][0]]]
            posting = script.postings[post]
            key = (script.calls[posting.call].function, posting.communication.line)
            found.setdefault(key, meeting.us)
    return found


def _operators(
    maker: ScriptMaker, name: str, record: Record, us: dict[tuple[str, int], float]
) -> list[OperatorInfo]:
    """One for each line that computes or communicates, at its offset without waits."""
    lines = maker.listing.functions[name].lines
    kernels: dict[int, list[Kernel]] = {}
    offset: dict[int, float] = {}
    talks: dict[int, str] = {}
    now = 0.0
    for step in record.steps:
        if isinstance(step, Run):
            kernel = record.kernels[step.operator]
            kernels.setdefault(kernel.line, []).append(kernel)
            offset.setdefault(kernel.line, now)
            now += step.us
        elif isinstance(step, Post):
            communication = record.communications[step.number]
            talks[communication.line] = communication.kind
            offset.setdefault(communication.line, now)
    found = []
    for line in sorted(offset):
        of_line = kernels.get(line, [])
        if line in talks:
            what, duration = maker.labels.of_communication(name, line), us.get((name, line), 0.0)
            talk = OperatorInfo(what, talks[line], "", "", "", 0, offset[line], duration)
            found.append(talk)
        elif any(k.num_bytes for k in of_line):
            found.append(_compute(maker, lines[line], of_line, offset[line]))
    return found


def _compute(maker: ScriptMaker, line: Line, kernels: list[Kernel], offset: float) -> OperatorInfo:
    main = max(kernels, key=lambda k: (k.duration_us, k.num_bytes))
    operators = maker.compiled.program.partition.graph.operators
    ops = [operators[i] for i in line.operators]
    named = next((op for op in ops if op.target == main.target), ops[0] if ops else None)
    return OperatorInfo(
        named.name if named else line.text.partition(" = ")[0],
        named.target if named else main.target,
        named.module if named else "",
        named.source if named else "",
        main.shapes,
        sum(k.num_bytes for k in kernels),
        offset,
        sum(k.duration_us for k in kernels),
    )
