"""Reading a plan: from YAML, with the file, the line and the field of what is wrong."""

from __future__ import annotations

from dataclasses import fields
from math import inf
from typing import Any, Literal

from superscaler.located import LocatedYaml
from superscaler.plan.plan import (
    BACKWARDS,
    MOST_DEVICES,
    NOTHING_OFFLOADED,
    OBJECTIVES,
    PLACEMENTS,
    Plan,
    PlanAssign,
    PlanOffload,
    PlanOptimizer,
    PlanRewrite,
    PlanSchedule,
    PlanSplit,
    PlanStage,
    is_order,
    unknown_order,
)


def read_plan(text: str, origin: str) -> Plan:
    """A plan from YAML text; `origin` names it in errors (PlanError)."""
    return _Reader(origin, text).plan()


class _Reader(LocatedYaml):
    """Reads a plan from YAML and says where it is wrong."""

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
            name=self.text(("name",), data.get("name", "")),
            schedule=self.schedule(data.get("schedule", {})),
            backward=self.backward(data.get("backward", "")),
            offload=self.offload(data.get("offload", {})),
        )

    def text(self, path: tuple[Any, ...], value: Any) -> str:
        if not isinstance(value, (str, int, float)):
            raise self.fail(path, f"expected a name, found {value!r}")
        return str(value)

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
        chosen = PlanOffload(
            self.texts(("offload", "activations"), data.get("activations", [])),
            self.truth(("offload", "optimizer"), data.get("optimizer", False)),
            self.texts(("offload", "parameters"), data.get("parameters", [])),
            self.ahead(("offload", "ahead"), data.get("ahead", PlanOffload.ahead)),
            self.truth(("offload", "batch"), data.get("batch", False)),
        )
        if "ahead" in data and not chosen.is_any:
            raise self.fail(("offload", "ahead"), NOTHING_OFFLOADED)
        return chosen

    def ahead(self, path: tuple[Any, ...], value: Any) -> int | Literal["auto"]:
        if isinstance(value, str) and value != "auto":
            raise self.fail(path, f"expected auto or a whole number above 0, found {value!r}")
        return "auto" if value == "auto" else self.positive(path, value)

    def truth(self, path: tuple[Any, ...], value: Any) -> bool:
        if not isinstance(value, bool):
            raise self.fail(path, f"expected true or false, found {value!r}")
        return value

    def schedule(self, value: Any) -> PlanSchedule:
        data = self.mapping(("schedule",), value, PlanSchedule, ())
        limit = data.get("time_limit_s", PlanSchedule.time_limit_s)
        is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if not is_number or not 0 < limit < inf:
            raise self.fail(
                ("schedule", "time_limit_s"), f"expected seconds above 0, found {limit!r}"
            )
        objective = data.get("objective", PlanSchedule.objective)
        if objective not in OBJECTIVES:
            raise self.fail(
                ("schedule", "objective"),
                f"expected one of {', '.join(OBJECTIVES)}, found {objective!r}",
            )
        placement = data.get("placement", PlanSchedule.placement)
        if placement not in ("", *PLACEMENTS):
            raise self.fail(
                ("schedule", "placement"),
                f"expected one of {', '.join(PLACEMENTS)}, found {placement!r}",
            )
        count = data.get("stages_per_device", PlanSchedule.stages_per_device)
        count = self.positive(("schedule", "stages_per_device"), count)
        return PlanSchedule(float(limit), objective, placement, count)

    def mapping(
        self, path: tuple[Any, ...], value: Any, kind: type, required: tuple[str, ...]
    ) -> dict[str, Any]:
        return self.known(path, value, tuple(f.name for f in fields(kind)), required)

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
        if not isinstance(devices, list):
            raise self.fail(
                (*path, "devices"), f"expected a list of device numbers, found {devices!r}"
            )
        devices = [self.device((*path, "devices"), d) for d in devices]
        if len(set(devices)) < len(devices) or not devices:
            raise self.fail(
                (*path, "devices"), f"expected different devices, at least one, found {devices!r}"
            )
        if not isinstance(mesh, dict):
            raise self.fail((*path, "mesh"), f"expected dims and sizes, found {mesh!r}")
        total = 1
        for name, size in mesh.items():
            if not isinstance(name, str):
                raise self.fail((*path, "mesh", name), f"expected a dim's name, found {name!r}")
            total *= self.positive((*path, "mesh", name), size)
        if total != len(devices):
            raise self.fail(
                (*path, "mesh"),
                f"the mesh has {total} places, the stage has {len(devices)} devices",
            )
        modules = self.texts((*path, "modules"), value.get("modules", []))
        first = value.get("first", "")
        if not isinstance(first, str):
            raise self.fail((*path, "first"), f"expected an operator's name, found {first!r}")
        return PlanStage(tuple(devices), dict(mesh), modules, first)

    def split(self, i: int, value: dict[str, Any]) -> PlanSplit:
        path = ("splits", i)
        for key in ("axis", "dim"):
            if not isinstance(value[key], str):
                raise self.fail((*path, key), f"expected a name, found {value[key]!r}")
        where = self.texts((*path, "where"), value.get("where", []))
        parts = self.positive((*path, "parts"), value["parts"]) if "parts" in value else 0
        uneven = self.truth((*path, "uneven"), value.get("uneven", False))
        again = self.truth((*path, "recompute"), value.get("recompute", False))
        if again and not parts:
            raise self.fail(
                (*path, "recompute"), "expected parts as well: only splits in time run again"
            )
        striped = self.truth((*path, "striped"), value.get("striped", False))
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
        if not isinstance(data.get("split", ""), str):
            raise self.fail(
                ("optimizer", "split"), f"expected a mesh dim's name, found {data['split']!r}"
            )
        found = PlanOptimizer(**data)
        for key in ("gather", "reduce"):
            if getattr(found, key) != "step" and not found.split:
                raise self.fail(
                    ("optimizer", key),
                    f"{data[key]!r} does nothing without split; name the mesh dim that shards "
                    "the updates, or leave it out",
                )
        return found

    def assignment(self, i: int, value: dict[str, Any]) -> PlanAssign:
        path = ("assign", i)
        splits = self.parts((*path, "splits"), value.get("splits", []))
        operators = self.texts((*path, "operators"), value["operators"])
        if not operators:
            raise self.fail((*path, "operators"), "expected at least one pattern, found none")
        phase = value.get("phase", "")
        if phase not in ("", "forward", "backward", "update"):
            raise self.fail(
                (*path, "phase"), f"expected forward, backward or update, found {phase!r}"
            )
        devices = self.places((*path, "devices"), value.get("devices", 0))
        uneven = self.truth((*path, "uneven"), value.get("uneven", False))
        return PlanAssign(operators, splits, devices, phase, uneven)

    def parts(self, path: tuple[Any, ...], value: Any) -> tuple[tuple[str, int], ...]:
        """Pairs of an axis and its number of parts."""
        if not isinstance(value, list):
            raise self.fail(path, f"expected a list of [axis, parts], found {value!r}")
        found, total = [], 1
        for j, pair in enumerate(value):
            if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
                raise self.fail((*path, j), f"expected [axis, parts], found {pair!r}")
            found.append((pair[0], self.positive((*path, j), pair[1])))
            total *= pair[1]
            if total > MOST_DEVICES:
                raise self.fail((*path, j), f"expected {MOST_DEVICES} parts at most, found {total}")
        return tuple(found)

    def places(self, path: tuple[Any, ...], value: Any) -> Any:
        """A device, or lists of devices, all of one shape."""
        if not isinstance(value, list):
            return self.device(path, value)
        found = tuple(self.places((*path, j), v) for j, v in enumerate(value))
        if not found or len({_shape(v) for v in found}) > 1:
            raise self.fail(
                path, f"expected lists of one length, a device for each part, found {value!r}"
            )
        return found

    def device(self, path: tuple[Any, ...], value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.fail(path, f"expected a device number, found {value!r}")
        if value >= MOST_DEVICES:
            raise self.fail(path, f"expected device numbers below {MOST_DEVICES}, found {value}")
        return value


def _shape(devices: Any) -> tuple[int, ...]:
    return (len(devices), *_shape(devices[0])) if isinstance(devices, tuple) else ()
