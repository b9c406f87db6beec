"""Reader: a cluster's YAML, field by field, with the line in every error."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from superscaler.cluster.machine import Device, Host, Link, Nodes
from superscaler.located import LocatedYaml, Path


class Reader(LocatedYaml):
    """Reads values at paths such as `("links", 0, "latency_us")`.

    Raises PlanError that names the file, the line and the field.
    """

    def items(self, path: Path, value: Any) -> list[Any]:
        """A list."""
        if not isinstance(value, list):
            raise self.fail(path, f"expected a list, found {value!r}")
        return value

    def whole(self, path: Path, value: Any) -> int:
        """A whole number above 0."""
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.fail(path, f"expected a whole number above 0, found {value!r}")
        return value

    def number(self, path: Path, value: Any, least: float = 0.0) -> float:
        """A number of `least` or more (above 0 where that is 0)."""
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or value < least or (not least and value <= 0):
            raise self.fail(path, f"expected a number above 0, found {value!r}")
        return float(value)

    def link(self, path: Path, value: Any) -> Link:
        """A link's numbers and name."""
        data = self.known(path, value, _names(Link), ("latency_us", "gbytes_per_s"))
        devices = data.get("devices", 0)
        return Link(
            self.number((*path, "latency_us"), data["latency_us"]),
            self.number((*path, "gbytes_per_s"), data["gbytes_per_s"]),
            str(data.get("name", path[-1] if isinstance(path[-1], str) else f"link{path[-1]}")),
            self.whole((*path, "devices"), devices) if devices else 0,
        )

    def device(self, path: Path, value: Any) -> Device:
        """A device's numbers; what is left out is as in the generic device."""
        data = dict(self.known(path, value, _names(Device)))
        if "tflops" in data:
            table = data["tflops"]
            if not isinstance(table, dict) or not table:
                raise self.fail((*path, "tflops"), f"expected speeds by dtype, found {table!r}")
            data["tflops"] = {
                str(k): self.number((*path, "tflops", k), v) for k, v in table.items()
            }
        for key in ("memory_gbytes", "memory_gbytes_per_s", "launch_us"):
            if key in data:
                data[key] = self.number((*path, key), data[key])
        return Device(**data)

    def host(self, path: Path, value: Any) -> Host:
        """A host's numbers."""
        data = dict(self.known(path, value, _names(Host)))
        for key in data:
            read = self.whole if key == "cores" else self.number
            data[key] = read((*path, key), data[key])
        return Host(**data)

    def nodes(self, path: Path, value: Any) -> Nodes:
        """Devices of another kind."""
        data = self.known(path, value, _names(Nodes), ("num_devices", "device"))
        return Nodes(
            self.whole((*path, "num_devices"), data["num_devices"]),
            self.device((*path, "device"), data["device"]),
            self.host((*path, "host"), data.get("host", {})),
        )


def _names(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))
