"""Plan: a parallelization plan as data, from and to YAML."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from superscaler.errors import PlanError

SPLIT_ORDERS = ("zb_h1", "zb_h2", "zb_v", "v_half", "v_min", "dualpipe", "auto")  # B and W apart
FUSED_ORDERS = ("gpipe", "1f1b", "nf1b", "interleaved", "breadth_first", "chimera")
ORDERS = (*FUSED_ORDERS, *SPLIT_ORDERS, "none")
V_ORDERS = ("zb_v", "v_half", "v_min")  # those for two stages a device, there and back
TWO_WAY_ORDERS = ("chimera", "dualpipe")  # with two copies of each parameter
BACKWARDS = ("", "fused", "split")
OBJECTIVES = ("makespan", "span")


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
    the stages that name nothing. A forward that comes back to an earlier stage visits it again:
    visit v of stage s of S is number v * S + s in orders.
    """

    devices: tuple[int, ...]
    mesh: dict[str, int] = field(default_factory=dict)
    modules: tuple[str, ...] = ()


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
    patterns) reads, the `optimizer`'s states, `parameters` (by patterns). `ahead`: how many copies
    in are under way before the one in use."""

    activations: tuple[str, ...] = ()
    optimizer: bool = False
    parameters: tuple[str, ...] = ()
    ahead: int = 2


@dataclass(frozen=True)
class PlanSchedule:
    """For `order: auto`: how long the solver may search, and what it makes short ("makespan": the
    step; "span": the time of the device that takes longest from its first task to its last)."""

    time_limit_s: float = 30.0
    objective: str = "makespan"


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
        """A plan from a YAML file. Raises PlanError naming the file, the line and the field."""
        path = Path(source)
        if not path.exists():
            raise PlanError(
                f"plan {str(source)!r}: no such file; "
                "give a YAML file or a policy like 'zero(dp=2, stage=3)'"
            )
        return Plan.from_yaml(path.read_text(), str(path))

    @staticmethod
    def from_yaml(text: str, origin: str = "plan") -> Plan:
        """A plan from YAML text; `origin` names it in errors."""
        return _Reader(origin, text).plan()

    def to_yaml(self) -> str:
        """The plan as YAML; `Plan.from_yaml` reads the same plan back."""
        return yaml.safe_dump(_plain(self), sort_keys=False, default_flow_style=None, width=100)

    def save(self, path: str | Path) -> None:
        """Write the plan as a YAML file."""
        Path(path).write_text(self.to_yaml())


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


class _Reader:
    """Reads a plan from YAML and says where it is wrong."""

    def __init__(self, origin: str, text: str) -> None:
        self.origin = origin
        try:
            self.node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise PlanError(
                f"{origin}{line}: not valid YAML: {getattr(error, 'problem', error)}"
            ) from error

    def fail(self, path: tuple[Any, ...], message: str) -> PlanError:
        name = ".".join(str(p) for p in path)
        return PlanError(
            f"{self.origin}, line {self.line(path)}: {name + ': ' if name else ''}{message}"
        )

    def line(self, path: tuple[Any, ...]) -> int:
        """The line of the field at `path` (of its parent when it is missing)."""
        node = self.node
        line = node.start_mark.line + 1 if node is not None else 1
        for key in path:
            if isinstance(node, yaml.MappingNode):
                found = next((v for k, v in node.value if k.value == str(key)), None)
            elif (
                isinstance(node, yaml.SequenceNode)
                and isinstance(key, int)
                and key < len(node.value)
            ):
                found = node.value[key]
            else:
                found = None
            if found is None:
                break
            node, line = found, found.start_mark.line + 1
        return line

    def plan(self) -> Plan:
        data = self.mapping((), self.data, Plan, required=("stages",))
        stages = self.items(("stages",), data["stages"], PlanStage, ("devices",))
        if not stages:
            raise self.fail(("stages",), "expected at least one stage, found none")
        rewrites = data.get("rewrites", [])
        rewrites = self.items(("rewrites",), rewrites, PlanRewrite, ("algorithm",))
        assign = self.items(("assign",), data.get("assign", []), PlanAssign, ("operators",))
        return Plan(
            stages=tuple(self.stage(i, s) for i, s in enumerate(stages)),
            microbatches=self.positive(("microbatches",), data.get("microbatches", 1)),
            splits=tuple(
                self.split(i, s)
                for i, s in enumerate(
                    self.items(("splits",), data.get("splits", []), PlanSplit, ("axis", "dim"))
                )
            ),
            order=self.order(data.get("order", "none")),
            recompute=self.texts(("recompute",), data.get("recompute", [])),
            optimizer=self.optimizer(data.get("optimizer", {})),
            rewrites=tuple(self.rewrite(i, r) for i, r in enumerate(rewrites)),
            assign=tuple(self.assignment(i, a) for i, a in enumerate(assign)),
            name=str(data.get("name", "")),
            schedule=self.schedule(data.get("schedule", {})),
            backward=self.backward(data.get("backward", "")),
            offload=self.offload(data.get("offload", {})),
        )

    def order(self, value: Any) -> str:
        if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            return "\n".join(line.strip() for line in value)
        if isinstance(value, str) and is_order(value):
            return value.strip()
        raise self.fail(("order",), unknown_order(value))

    def backward(self, value: Any) -> str:
        if value not in BACKWARDS:
            raise self.fail(("backward",), f"expected fused or split, found {value!r}")
        return str(value)

    def offload(self, value: Any) -> PlanOffload:
        data = self.mapping(("offload",), value, PlanOffload, ())
        return PlanOffload(
            self.texts(("offload", "activations"), data.get("activations", [])),
            self.truth(("offload", "optimizer"), data.get("optimizer", False)),
            self.texts(("offload", "parameters"), data.get("parameters", [])),
            self.positive(("offload", "ahead"), data.get("ahead", PlanOffload.ahead)),
        )

    def truth(self, path: tuple[Any, ...], value: Any) -> bool:
        if not isinstance(value, bool):
            raise self.fail(path, f"expected true or false, found {value!r}")
        return value

    def schedule(self, value: Any) -> PlanSchedule:
        data = self.mapping(("schedule",), value, PlanSchedule, ())
        limit = data.get("time_limit_s", PlanSchedule.time_limit_s)
        if not isinstance(limit, (int, float)) or isinstance(limit, bool) or limit <= 0:
            raise self.fail(
                ("schedule", "time_limit_s"), f"expected seconds above 0, found {limit!r}"
            )
        objective = data.get("objective", PlanSchedule.objective)
        if objective not in OBJECTIVES:
            raise self.fail(
                ("schedule", "objective"),
                f"expected one of {', '.join(OBJECTIVES)}, found {objective!r}",
            )
        return PlanSchedule(float(limit), objective)

    def mapping(
        self, path: tuple[Any, ...], value: Any, kind: type, required: tuple[str, ...]
    ) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.fail(path, f"expected a mapping, found {value!r}")
        known = [f.name for f in fields(kind)]
        for key in value:
            if key not in known:
                raise self.fail((*path, key), f"unknown field; known: {', '.join(known)}")
        for key in required:
            if key not in value:
                raise self.fail((*path, key), "this field is missing")
        return value

    def items(
        self, path: tuple[Any, ...], value: Any, kind: type, required: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        if not isinstance(value, list):
            raise self.fail(path, f"expected a list, found {value!r}")
        return [self.mapping((*path, i), v, kind, required) for i, v in enumerate(value)]

    def texts(self, path: tuple[Any, ...], value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.fail(path, f"expected a list of patterns, found {value!r}")
        return tuple(value)

    def positive(self, path: tuple[Any, ...], value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.fail(path, f"expected a whole number above 0, found {value!r}")
        return value

    def stage(self, i: int, value: dict[str, Any]) -> PlanStage:
        path = ("stages", i)
        devices, mesh = value["devices"], value.get("mesh", {})
        if not isinstance(devices, list) or not all(isinstance(d, int) and d >= 0 for d in devices):
            raise self.fail(
                (*path, "devices"), f"expected a list of device numbers, found {devices!r}"
            )
        if len(set(devices)) < len(devices) or not devices:
            raise self.fail(
                (*path, "devices"), f"expected different devices, at least one, found {devices!r}"
            )
        if not isinstance(mesh, dict):
            raise self.fail((*path, "mesh"), f"expected dims and sizes, found {mesh!r}")
        total = 1
        for name, size in mesh.items():
            total *= self.positive((*path, "mesh", name), size)
        if total != len(devices):
            raise self.fail(
                (*path, "mesh"),
                f"the mesh has {total} places, the stage has {len(devices)} devices",
            )
        return PlanStage(
            tuple(devices), dict(mesh), self.texts((*path, "modules"), value.get("modules", []))
        )

    def split(self, i: int, value: dict[str, Any]) -> PlanSplit:
        path = ("splits", i)
        for key in ("axis", "dim"):
            if not isinstance(value[key], str):
                raise self.fail((*path, key), f"expected a name, found {value[key]!r}")
        where = self.texts((*path, "where"), value.get("where", []))
        parts = self.positive((*path, "parts"), value["parts"]) if "parts" in value else 0
        uneven = bool(value.get("uneven", False))
        again = bool(value.get("recompute", False))
        if again and not parts:
            raise self.fail(
                (*path, "recompute"), "expected parts as well: only splits in time run again"
            )
        striped = bool(value.get("striped", False))
        if striped and (parts or uneven):
            raise self.fail((*path, "striped"), "expected neither parts nor uneven beside it")
        return PlanSplit(value["axis"], value["dim"], where, uneven, parts, again, striped)

    def rewrite(self, i: int, value: dict[str, Any]) -> PlanRewrite:
        path, options = ("rewrites", i), value.get("options", {})
        if not isinstance(value["algorithm"], str):
            raise self.fail((*path, "algorithm"), f"expected a name, found {value['algorithm']!r}")
        if not isinstance(options, dict) or not all(isinstance(k, str) for k in options):
            raise self.fail((*path, "options"), f"expected names and values, found {options!r}")
        patterns = self.texts((*path, "operators"), value.get("operators", ["**"]))
        return PlanRewrite(value["algorithm"], patterns, options)

    def optimizer(self, value: Any) -> PlanOptimizer:
        data = self.mapping(("optimizer",), value, PlanOptimizer, ())
        for key, allowed in (("gather", ("step", "use")), ("reduce", ("step", "microbatch"))):
            if data.get(key, "step") not in allowed:
                raise self.fail(
                    ("optimizer", key), f"expected one of {', '.join(allowed)}, found {data[key]!r}"
                )
        return PlanOptimizer(**{k: str(v) for k, v in data.items()})

    def assignment(self, i: int, value: dict[str, Any]) -> PlanAssign:
        path = ("assign", i)
        splits = []
        for j, pair in enumerate(value.get("splits", [])):
            if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
                raise self.fail((*path, "splits", j), f"expected [axis, parts], found {pair!r}")
            splits.append((pair[0], self.positive((*path, "splits", j), pair[1])))
        operators = self.texts((*path, "operators"), value["operators"])
        phase = value.get("phase", "")
        if phase not in ("", "forward", "backward", "update"):
            raise self.fail(
                (*path, "phase"), f"expected forward, backward or update, found {phase!r}"
            )
        devices = _tuples(value.get("devices", 0))
        return PlanAssign(
            operators, tuple(splits), devices, phase, bool(value.get("uneven", False))
        )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
