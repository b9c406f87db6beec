"""Plan: a parallelization plan as data, from and to YAML."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from math import prod
from pathlib import Path
from typing import Any, Literal

import yaml

from superscaler.errors import PlanError
from superscaler.located import read_yaml

FOLDER = Path(__file__).parent.parent / "plans"
SPLIT_ORDERS = ("zb_h1", "zb_h2", "zb_v", "v_half", "v_min", "dualpipe", "auto")  # B and W apart
FUSED_ORDERS = ("gpipe", "1f1b", "nf1b", "interleaved", "breadth_first", "chimera")
ORDERS = (*FUSED_ORDERS, *SPLIT_ORDERS, "none")
LOOPED_ORDERS = ("interleaved", "breadth_first")  # those for several stages a device, in turn
V_ORDERS = ("zb_v", "v_half", "v_min")  # those for two stages a device, there and back
TWO_WAY_ORDERS = ("chimera", "dualpipe")  # with two copies of each parameter
BACKWARDS = ("", "fused", "split")
OBJECTIVES = ("makespan", "span")
NOTHING_OFFLOADED = (
    "it does nothing where nothing is offloaded; name activations, parameters, the optimizer or "
    "the batch beside it, or leave it out"
)
MOST_DEVICES = 65_536  # that a plan may number: a larger number is a slip
PLACEMENTS = ("linear", "v", "looped", "free")  # that the solver can search


@dataclass(frozen=True)
class PlanSplit:
    """Every operator that has `axis` is split on it along mesh dim `dim`; with `parts`, in time.

    In time, the same devices work on one part after the other (`dim` then only names the split),
    and, with `recompute`, run each part's forward again right before its backward.

    `axis` is an axis name (`batch`), a spot (`layers.*.fc1.weight:0`: dim 0 of these parameters),
    `auto` (the axes worth splitting, found from the graph), `sequence` (the token axes of what
    tensor-parallel operators put out) or `context` (the positions that attention looks from). Where
    an operator has several axes of one mesh dim, the first split listed wins. `where`: module
    patterns to which the split is limited. `uneven` allows parts of different sizes; with `striped`
    part i has every n-th element from i on, so that causal attention is as much work on each.
    """

    axis: str
    dim: str
    where: tuple[str, ...] = ()
    uneven: bool = False
    parts: int = 0
    recompute: bool = False
    striped: bool = False


@dataclass(frozen=True)
class PlanStage:
    """A pipeline stage: `mesh` names and sizes the dims of its `devices` (flat, row-major).

    `modules` are patterns of what belongs to the stage; what no stage names is cut by cost among
    the stages that name nothing. Or `first` names the forward operator that each stage but the
    first begins with (`layers.6.norm.native_layer_norm`). A forward that comes back to an earlier
    stage visits it again: visit v of stage s of S is number v * S + s in orders.
    """

    devices: tuple[int, ...]
    mesh: dict[str, int] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    first: str = ""

    def __post_init__(self) -> None:
        places = prod(self.mesh.values())
        if places != len(self.devices):
            raise PlanError(
                f"stage: the mesh {self.mesh} has {places} places, the stage has "
                f"{len(self.devices)} devices; the dims' sizes multiply to the number of devices"
            )


@dataclass(frozen=True)
class PlanAssign:
    """The primitives on a selection: split, then place. Later entries override earlier ones.

    `splits` are (axis, parts) pairs or ("replicate", parts), outermost first; `devices` a number or
    a nested list with one dim per split.
    """

    operators: tuple[str, ...]
    splits: tuple[tuple[str, int], ...] = ()
    devices: Any = 0
    phase: str = ""
    uneven: bool = False


@dataclass(frozen=True)
class PlanRewrite:
    """A registered algorithm (`register_algorithm`) on the selected operators, with its options;
    after the splits, before `assign`."""

    algorithm: str
    operators: tuple[str, ...] = ("**",)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlanOptimizer:
    """How updates are split: `split` is the mesh dim that shards them ("": none).

    `gather`: "step" (parameters are gathered once a step) or "use" (at each use, freed after);
    `reduce`: "step" (gradients are summed over microbatches, then reduced) or "microbatch".
    """

    split: str = ""
    gather: str = "step"
    reduce: str = "step"


@dataclass(frozen=True)
class PlanOffload:
    """What is in host memory while it is not used: `activations` that the backward of modules (by
    patterns) reads, the `optimizer`'s states, `parameters` (by patterns), the `batch`. `ahead`: how
    many copies in are under way before the one in use, and how many out may be ("auto": as many
    as make the step the shortest within the memory of the cluster at hand)."""

    activations: tuple[str, ...] = ()
    optimizer: bool = False
    parameters: tuple[str, ...] = ()
    ahead: int | Literal["auto"] = 4
    batch: bool = False

    @property
    def is_any(self) -> bool:
        """Whether anything is offloaded."""
        return bool(self.activations or self.optimizer or self.parameters or self.batch)


@dataclass(frozen=True)
class PlanSchedule:
    """For `order: auto`: how long the solver may search, and what it makes short ("makespan": the
    step; "span": the time of the device that takes longest from its first task to its last).

    With a `placement` the solver decides as well where stages begin and, from the stages' groups of
    devices, on which each runs: one stage on each group ("linear"), or up to `stages_per_device`,
    there and back ("v"), dealt in turn ("looped"), or as they come best ("free", which tries all).
    """

    time_limit_s: float = 30.0
    objective: str = "makespan"
    placement: str = ""
    stages_per_device: int = 2


@dataclass(frozen=True)
class Plan:
    """A parallelization plan: see the fields' classes.

    `order` is one of ORDERS ("auto": the solver's, for the cluster at hand), or the order itself: a
    line for each device, or group of devices, with all its tasks in turn, such as `F0.0 F0.1 B0.0
    W0.0 B0.1 W0.1` (forward, input and weight gradients of stage 0 on microbatches 0 and 1; BW:
    both gradients in one task).

    `backward` says whether weight gradients (W) are tasks of their own ("split") or run with the
    input gradients ("fused"); "" leaves it to the order.

    Plans are made by `superscaler.policies`, by hand, or by `Plan.load`.
    """

    stages: tuple[PlanStage, ...]
    microbatches: int = 1
    splits: tuple[PlanSplit, ...] = ()
    order: str = "none"
    recompute: tuple[str, ...] = ()
    optimizer: PlanOptimizer = PlanOptimizer()
    rewrites: tuple[PlanRewrite, ...] = ()
    assign: tuple[PlanAssign, ...] = ()
    name: str = ""
    schedule: PlanSchedule = PlanSchedule()
    backward: str = ""
    offload: PlanOffload = PlanOffload()

    @property
    def splits_backward(self) -> bool:
        """Whether weight gradients (W) are tasks of their own, apart from input gradients (B)."""
        if self.backward:
            return self.backward == "split"
        if self.order in ORDERS:
            return self.order in SPLIT_ORDERS and self.microbatches > 1
        return any(word.startswith("W") for word in self.order.split())

    @property
    def num_devices(self) -> int:
        """One more than the highest device the stages name."""
        return 1 + max(d for s in self.stages for d in s.devices)

    @staticmethod
    def load(source: str | Path) -> Plan:
        """A plan from a YAML file, or by the name of one that ships.

        Raises PlanError when there is none, or naming the file, the line and the field.
        """
        path = find_plan(source)
        if path is None:
            raise PlanError(f"plan {str(source)!r}: {_no_file(str(source))}")
        return Plan.from_yaml(read_yaml(path, f"plan {str(source)!r}"), str(path))

    @staticmethod
    def from_yaml(text: str, origin: str = "plan") -> Plan:
        """A plan from YAML text; `origin` names it in errors."""
        from superscaler.plan.read import read_plan

        return read_plan(text, origin)

    def to_yaml(self) -> str:
        """The plan as YAML; `Plan.from_yaml` reads the same plan back."""
        return yaml.safe_dump(_plain(self), sort_keys=False, default_flow_style=None, width=100)

    def save(self, path: str | Path) -> None:
        """Write the plan as a YAML file."""
        Path(path).write_text(self.to_yaml())


def find_plan(source: str | Path) -> Path | None:
    """The file of a plan: it is named, or a plan of that name ships; None where there is none."""
    path, shipped = Path(source), FOLDER / f"{str(source).removesuffix('.yaml')}.yaml"
    try:
        return next((file for file in (path, shipped) if file.is_file()), None)
    except OSError:  # a name longer than the system takes
        return None


def shipped_plans() -> str:
    """The names of the plans that ship."""
    return ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))


def _no_file(source: str) -> str:
    """What to do about a plan that is no file."""
    if "(" in source:
        return (
            "no such file; this is a policy call, which superscaler.policies.parse_plan takes, and "
            "so do compile and verify"
        )
    return (
        f"no such file, and no shipped plan of that name; those that ship: {shipped_plans()}; "
        "policy calls such as 'zero(dp=2, stage=3)' are plans, too"
    )


def is_order(text: str) -> bool:
    """Whether a plan's order may be this text: a known name, or actions such as `F0.0`."""
    return text in ORDERS or "." in text


def unknown_order(value: object) -> str:
    """What is wrong with an order that is neither a known name nor actions."""
    return (
        f"expected one of {', '.join(ORDERS)}, or a list of lines such as "
        f"'F0.0 F0.1 BW0.0 BW0.1', found {value!r}"
    )


def _plain(plan: Plan) -> dict[str, Any]:
    """The plan as dicts and lists, fields at their default left out."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items()}
        return [clean(v) for v in value] if isinstance(value, (list, tuple)) else value

    def trimmed(item: Any) -> dict[str, Any]:
        full = asdict(item)
        defaults = {f.name: f.default for f in fields(item)}
        kept = [k for k in full if getattr(item, k) != defaults[k] and full[k] not in ((), {})]
        return {k: clean(full[k]) for k in kept}

    data = trimmed(plan)
    for name in ("stages", "splits", "rewrites", "assign"):
        if name in data:
            data[name] = [trimmed(item) for item in getattr(plan, name)]
    for name in ("optimizer", "schedule", "offload"):
        if name in data:
            data[name] = trimmed(getattr(plan, name))
    if plan.order not in ORDERS:
        data["order"] = plan.order.splitlines()
    return data
