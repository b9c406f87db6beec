"""Made-up simulations of the size of real ones: 1F1B with B and W split, any number of devices."""

from __future__ import annotations

from functools import cache

from superscaler.simulate.simulation import (
    Event,
    FunctionInfo,
    Holder,
    OperatorInfo,
    RankClass,
    Simulation,
    Traffic,
)

US = {"F": 1000.0, "B": 1100.0, "W": 800.0}
SEND_US = 220.0
ACTIVATION = 96 << 20
KEPT = 30 << 20  # what W needs
MESSAGE = 16 << 20


@cache
def one_f_one_b(num_stages: int, num_microbatches: int, ranks_per_stage: int = 1) -> Simulation:
    """A pipeline step; a stage runs on `ranks_per_stage` ranks that do the same."""
    times = _times(num_stages, num_microbatches)
    functions = _functions(num_stages)
    step = max(end for _, end in times.values()) + 2500.0
    classes = tuple(
        _rank_class(s, num_stages, num_microbatches, ranks_per_stage, times, step)
        for s in range(num_stages)
    )
    total = MESSAGE * num_microbatches * ranks_per_stage
    traffic = [Traffic(s, s + 1, total) for s in range(num_stages - 1)]
    traffic += [Traffic(s + 1, s, total) for s in range(num_stages - 1)]
    bound = num_microbatches * sum(US.values()) + 2500.0
    return Simulation(
        name="gpt under a made-up plan",
        cluster="a100-80g",
        world_size=num_stages * ranks_per_stage,
        step_us=step,
        classes=classes,
        functions=functions,
        traffic=tuple(traffic),
        link_bytes={"nvlink": 2 * total * (num_stages - 1)},
        flops=1e9 * num_microbatches * num_stages * ranks_per_stage * 300,
        peak_tflops=312.0 * num_stages * ranks_per_stage,
        schedule={
            "made_by": "1f1b",
            "status": "feasible",
            "length_us": step,
            "bound_us": bound,
            "gap": 1 - bound / step,
        },
        plan=f"stages: {num_stages}\nmicrobatches: {num_microbatches}\norder: 1f1b\n",
        notes=("stage 3 is <slow> & alone",),
    )


def _order(stage: int, num_stages: int, count: int) -> list[tuple[str, int]]:
    warm = min(count, num_stages - stage)
    line = [("F", m) for m in range(warm)]
    for m in range(count):
        line += [("B", m), ("W", m)]
        if warm + m < count:
            line.append(("F", warm + m))
    return line


def _times(num_stages: int, count: int) -> dict[tuple[str, int, int], tuple[float, float]]:
    lines = [_order(s, num_stages, count) for s in range(num_stages)]
    at, free = [0] * num_stages, [0.0] * num_stages
    done: dict[tuple[str, int, int], tuple[float, float]] = {}
    while any(at[s] < len(lines[s]) for s in range(num_stages)):
        for s in range(num_stages):
            while at[s] < len(lines[s]):
                kind, m = lines[s][at[s]]
                other = {"F": s - 1, "B": s + 1}.get(kind, -1)
                ready = 0.0
                if 0 <= other < num_stages:
                    if (kind, other, m) not in done:
                        break
                    ready = done[kind, other, m][1] + SEND_US
                start = max(free[s], ready)
                end = start + US[kind] * (1.4 if s == num_stages - 1 else 1.0)
                done[kind, s, m] = (start, end)
                free[s], at[s] = end, at[s] + 1
    return done


def _functions(num_stages: int) -> tuple[FunctionInfo, ...]:
    found = []
    for s in range(num_stages):
        for kind, name in (("F", "forward"), ("B", "backward"), ("W", "weight")):
            found.append(FunctionInfo(f"{name}_{s}", kind, s, "", _operators(kind, s)))
        found.append(FunctionInfo(f"update_{s}", "U", s, "", ()))
        doc = f"layers.{s}.out float32[4, 64, 128], ranks {s} -> {s + 1}"
        found.append(FunctionInfo(f"send_{s}", "C", s, doc, ()))
    return tuple(found)


def _operators(kind: str, stage: int) -> tuple[OperatorInfo, ...]:
    names = ("norm", "attn.qkv", "attn.scores", "attn.out", "mlp.fc1", "mlp.gelu", "mlp.fc2")
    parts = [0.05, 0.2, 0.2, 0.1, 0.2, 0.05, 0.2]
    targets = {"norm": "aten.native_layer_norm.default", "mlp.gelu": "aten.gelu.default"}
    found, at = [], 0.0
    for name, part in zip(names, parts):
        path = f"layers.{stage}.{name}"
        target = targets.get(name, "aten.mm.default")
        source = f"gpt.py:{40 + names.index(name)}"
        shapes, took = "float32[4, 64, 512]", part * US[kind]
        op = f"op_{kind.lower()}_{names.index(name)}"
        found.append(OperatorInfo(op, target, path, source, shapes, 4 << 17, at, took))
        at += took
    return tuple(found)


def _rank_class(stage, num_stages, count, width, times, step) -> RankClass:
    events, memory, alive = [], [], 0
    resident = (2 + (stage == 0)) << 30
    changes = []
    for kind in "FBW":
        for m in range(count):
            start, end = times[kind, stage, m]
            number = 5 * stage + "FBW".index(kind)
            name = f"{('forward', 'backward', 'weight')['FBW'.index(kind)]}_{stage}"
            events.append(Event("compute", number, (m,), m, start, end, name))
            changes += {
                "F": [(start, ACTIVATION)],
                "B": [(end, KEPT - ACTIVATION)],
                "W": [(end, -KEPT)],
            }[kind]
            other = {"F": stage + 1, "B": stage - 1}.get(kind, -1)
            if 0 <= other < num_stages:
                what = f"{'activation' if kind == 'F' else 'gradient'} to stage {other}"
                peer = (other * width,)
                link = Event("nvlink", 5 * stage + 4, (m,), m, end, end + SEND_US, what)
                link = Event(
                    link.lane, link.function, link.time, m, end, end + SEND_US, what,
                    "communication", MESSAGE, peer,
                )  # fmt: skip
                events.append(link)
    last = max(e.end_us for e in events if e.lane == "compute")
    events.append(Event("compute", 5 * stage + 3, (), -1, step - 2500.0, step, "update"))
    if last < step - 2500.0:
        events.append(Event("compute", -1, (), -1, last, step - 2500.0, "for the others", "wait"))
    memory.append((0.0, resident))
    for at, change in sorted(changes):
        alive += change
        memory.append((at, resident + alive))
    compute = [e for e in events if e.lane == "compute" and e.kind == "run"]
    sent = sum(e.num_bytes for e in events)
    peak = max(b for _, b in memory)
    return RankClass(
        ranks=tuple(range(stage * width, (stage + 1) * width)),
        program=stage,
        events=tuple(sorted(events, key=lambda e: e.start_us)),
        memory=tuple(memory),
        resident_bytes=resident,
        peak_bytes=peak,
        capacity_bytes=80 << 30 if count > 100 else 4 << 30,
        holders=(Holder("parameters and optimizer states", resident), Holder("x", peak - resident)),
        busy_us={"compute": sum(e.end_us - e.start_us for e in compute)},
        exposed_us=step - 2500.0 - last,
        sent_bytes={"nvlink": sent},
    )
