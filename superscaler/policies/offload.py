"""Offload: any plan, with part of its tensors in host memory while they are not used."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from superscaler.errors import PlanError
from superscaler.plan import NOTHING_OFFLOADED, Plan, PlanOffload
from superscaler.policies.check import policy


@policy
def offload(
    plan: Plan,
    activations: str = "",
    optimizer: bool = False,
    parameters: str = "",
    ahead: int | Literal["auto"] = PlanOffload.ahead,
    batch: bool = False,
) -> Plan:
    """`plan` with activations, optimizer states, parameters or the batch in host memory, beside
    what it has there already.

    `activations` are patterns of modules whose backward reads them from there, `parameters` those
    of parameters that are copied in at each use, separated by spaces; with `batch` each part of the
    batch is copied in when its microbatch reads it. `ahead` copies in are under way before the one
    in use, and as many out at most; with "auto" as many as make the step the shortest within the
    memory of the cluster.
    Sources: ZeRO-Offload, arXiv 2101.06840 (states), ZeRO-Infinity,
    arXiv 2104.07857 (parameters), vDNN, arXiv 1602.08124 (activations). Raises PlanError for
    another `ahead`, and for one where nothing is offloaded.
    """
    is_number = isinstance(ahead, int) and not isinstance(ahead, bool)
    if ahead != "auto" and (not is_number or int(ahead) < 1):
        raise PlanError(f"offload: ahead is {ahead!r}; expected auto or a whole number above 0")
    before = plan.offload
    chosen = PlanOffload(
        tuple(dict.fromkeys((*before.activations, *activations.split()))),
        before.optimizer or optimizer,
        tuple(dict.fromkeys((*before.parameters, *parameters.split()))),
        before.ahead if ahead == PlanOffload().ahead else ahead,
        before.batch or batch,
    )
    if ahead != PlanOffload().ahead and not chosen.is_any:
        raise PlanError(f"offload: ahead is {ahead!r}; {NOTHING_OFFLOADED}")
    return replace(plan, offload=chosen)
