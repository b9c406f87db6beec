"""SuperScaler: a PyTorch training step and a parallelization plan become per-rank PyTorch code.

The public names are imported at their first use, so that emitted code, which needs only
`superscaler.runtime`, never loads the compiler.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superscaler import policies
    from superscaler.cluster import Cluster
    from superscaler.compiler import CompiledProgram, compile
    from superscaler.errors import SuperScalerError
    from superscaler.graph.graph import Graph
    from superscaler.ops import register_op
    from superscaler.parallelize import parallelize
    from superscaler.plan import Plan, PlanSplit, PlanStage
    from superscaler.simulate.simulation import Simulation
    from superscaler.trace import trace
    from superscaler.transform import (
        Offload,
        Partition,
        Recompute,
        Replicate,
        Split,
        op_assign,
        op_order,
        op_trans,
        register_algorithm,
        select,
        select_axis,
        start,
    )
    from superscaler.verify import verify
    from superscaler.workload import Workload, load_workload

__version__ = "0.1.0"

__all__ = [
    "Cluster",
    "CompiledProgram",
    "Graph",
    "Offload",
    "Partition",
    "Plan",
    "PlanSplit",
    "PlanStage",
    "Recompute",
    "Replicate",
    "Simulation",
    "Split",
    "SuperScalerError",
    "Workload",
    "compile",
    "load_workload",
    "op_assign",
    "op_order",
    "op_trans",
    "parallelize",
    "policies",
    "register_algorithm",
    "register_op",
    "select",
    "select_axis",
    "start",
    "trace",
    "verify",
]

_MODULE_OF = {
    "Cluster": "superscaler.cluster",
    "CompiledProgram": "superscaler.compiler",
    "Graph": "superscaler.graph.graph",
    "Offload": "superscaler.transform",
    "Partition": "superscaler.transform",
    "Plan": "superscaler.plan",
    "PlanSplit": "superscaler.plan",
    "PlanStage": "superscaler.plan",
    "Recompute": "superscaler.transform",
    "Replicate": "superscaler.transform",
    "Simulation": "superscaler.simulate.simulation",
    "Split": "superscaler.transform",
    "SuperScalerError": "superscaler.errors",
    "Workload": "superscaler.workload",
    "compile": "superscaler.compiler",
    "load_workload": "superscaler.workload",
    "op_assign": "superscaler.transform",
    "op_order": "superscaler.transform",
    "op_trans": "superscaler.transform",
    "parallelize": "superscaler.parallelize",
    "register_algorithm": "superscaler.transform",
    "register_op": "superscaler.ops",
    "select": "superscaler.transform",
    "select_axis": "superscaler.transform",
    "start": "superscaler.transform",
    "trace": "superscaler.trace",
    "verify": "superscaler.verify",
}


def __getattr__(name: str) -> Any:
    if name == "policies":
        return import_module("superscaler.policies")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'superscaler' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package: `ss.trace` is the function also after `superscaler.trace` was imported.

    The import system binds a submodule as an attribute of its package once it has loaded it; where
    a public function has the submodule's name, the function is bound in its place.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _MODULE_OF.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
