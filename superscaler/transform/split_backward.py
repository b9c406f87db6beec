"""Split backward: work that another stage waits for (B) apart from weight gradients (W)."""

from __future__ import annotations

from dataclasses import replace

from superscaler.graph.graph import Graph
from superscaler.transform.partition import Placed

BACKWARD = "backward_"
WEIGHT = "weight_"


def split_backward(graph: Graph, placed: list[Placed]) -> list[Placed]:
    """The backward operators of a stage that no other stage's backward waits for get its label
    `weight_s` in place of `backward_s`.

    Only work that is done for each microbatch counts as waiting: what adds up gradients over all
    microbatches (of a tied parameter, say) comes after them anyway. A stage that no other waits
    for, the first, has W alone. Source: Zero Bubble Pipeline Parallelism, arXiv 2401.10241.
    """
    waited = [False] * len(placed)
    for op in reversed(graph.operators):
        label = placed[op.id].label
        if not label.startswith(BACKWARD):
            continue
        readers = (r for t in op.outputs if t >= 0 for r, _ in graph.consumers.get(t, ()))
        waited[op.id] = any(
            waited[r] or placed[r].label != label
            for r in readers
            if placed[r].label.startswith(BACKWARD)
        )
    return [
        replace(p, label=p.label.replace(BACKWARD, WEIGHT))
        if p.label.startswith(BACKWARD) and not waited[op]
        else p
        for op, p in enumerate(placed)
    ]
