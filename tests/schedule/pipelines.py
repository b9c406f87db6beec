"""Pipelines of given costs for tests of the scheduler."""

from superscaler.schedule.problem import Edge, Hold, Kind, Lane, Memory, Problem, Work

KINDS = (Kind.FORWARD, Kind.BACKWARD, Kind.WEIGHT)
UNLIMITED = 1 << 40


def pipeline(
    costs: list[tuple[int, int, int]],
    devices: list[int],
    microbatches: int,
    latency: int = 0,
    capacity: int = UNLIMITED,
    activation: int = 1,
) -> Problem:
    """F, B and W of every stage and microbatch; F's activation is held until W has ended."""
    works, edges, holds = [], [], []
    for m in range(microbatches):
        first = len(works)
        for s, ticks in enumerate(costs):
            for kind, duration in zip(KINDS, ticks):
                works.append(Work(f"{kind}{s}.{m}", kind, s, m, (devices[s],), duration))
        for s in range(len(costs)):
            f = first + 3 * s
            edges += [Edge(f, f + 1), Edge(f + 1, f + 2)]
            if s + 1 < len(costs):
                delay = latency if devices[s] != devices[s + 1] else 0
                edges += [Edge(f, f + 3, delay), Edge(f + 4, f + 1, delay)]
            holds.append(Hold(devices[s], activation, (f,), (f + 2,), f"{s}.{m}"))
    count = max(devices) + 1
    return Problem(
        tuple(Lane((d,)) for d in range(count)),
        tuple(works),
        tuple(edges),
        tuple(Memory((d,), capacity) for d in range(count)),
        tuple(holds),
    )


def uniform(num_devices: int, microbatches: int, per_device: int = 1, **how: int) -> Problem:
    """Equal stages: F, B and W take 20, 22 and 16 ticks on each device, in V form where there are
    two stages."""
    devices = list(range(num_devices))
    devices = devices + devices[::-1] if per_device == 2 else devices
    costs = [(20 // per_device, 22 // per_device, 16 // per_device)] * len(devices)
    return pipeline(costs, devices, microbatches, **how)
