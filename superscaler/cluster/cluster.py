"""Cluster: the devices a plan runs on and what moving bytes between them costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from superscaler.cluster.machine import Device, Host, Link, Nodes
from superscaler.cluster.read import Reader
from superscaler.errors import PlanError
from superscaler.located import read_yaml

FOLDER = Path(__file__).parent.parent / "plans" / "clusters"
LINKS = (Link(5.0, 200.0, "nvlink", 8), Link(15.0, 25.0, "infiniband"))
COPY = Link(10.0, 20.0, "pcie")
GENERIC = Device()
HOST = Host()


@dataclass(frozen=True)
class Cluster:
    """`num_devices` devices, numbered node by node.

    `links` are its levels, the innermost first: neighbours 0 to n-1, n to 2n-1, ... of a level for
    n devices reach each other over it; the last level joins all. `copy` is the link between a
    device and its host. `others` are devices of further kinds, the last of the `num_devices`.
    """

    num_devices: int
    device_kind: Device = GENERIC
    links: tuple[Link, ...] = LINKS
    copy: Link = COPY
    host: Host = HOST
    others: tuple[Nodes, ...] = ()
    name: str = "default"

    @staticmethod
    def load(source: str | Path) -> Cluster:
        """A cluster from a YAML file, or by the name of one that ships.

        `NAMExN` is the shipped cluster NAME with N devices: `v100-32g-8x32`.

        Raises PlanError when the file is missing, malformed, or has unknown fields: with the file,
        the line and the field.
        """
        path = Path(source)
        shipped = FOLDER / f"{source}.yaml"
        sized = re.fullmatch(r"(.+)x(\d+)", str(source))
        if path.is_file() or shipped.is_file():
            path = path if path.is_file() else shipped
            return Cluster.from_yaml(read_yaml(path, f"cluster {path}"), f"cluster {path}")
        if sized and (FOLDER / f"{sized.group(1)}.yaml").is_file() and int(sized.group(2)):
            found = Cluster.load(sized.group(1))
            if found.others:
                raise PlanError(
                    f"cluster {source}: {sized.group(1)} has devices of several kinds, so it has "
                    "no other size; write a cluster file that says how many there are of each"
                )
            return replace(found, num_devices=int(sized.group(2)), name=str(source))
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise PlanError(
            f"cluster {str(source)!r}: no such file, and no shipped cluster of that name; those "
            f"that ship: {known}; NAMExN is one of them with N devices"
        )

    @staticmethod
    def from_yaml(text: str, origin: str = "cluster") -> Cluster:
        """A cluster from YAML text; `origin` names it in errors."""
        return _cluster(Reader(origin, text))

    @staticmethod
    def from_dict(data: Any, origin: str = "cluster") -> Cluster:
        """The cluster of which `to_dict` made `data`."""
        return Cluster.from_yaml(yaml.safe_dump(data, sort_keys=False), origin)

    def to_dict(self) -> dict[str, Any]:
        """Everything as dicts and lists, as a YAML file has it."""
        data = asdict(self)
        data["device"] = data.pop("device_kind")
        data["links"] = list(data["links"])
        data["others"] = list(data["others"])
        return data

    def device(self, number: int) -> Device:
        """What a device is."""
        return self._nodes(number)[0]

    def host_of(self, number: int) -> Host:
        """The host of a device's node."""
        return self._nodes(number)[1]

    def _nodes(self, number: int) -> tuple[Device, Host]:
        end = self.num_devices
        for nodes in reversed(self.others):
            end -= nodes.num_devices
            if number >= end:
                return nodes.device, nodes.host
        return self.device_kind, self.host

    @property
    def devices_per_node(self) -> int:
        """How many devices the innermost link joins."""
        return self.links[0].devices or self.num_devices

    def link(self, devices: Sequence[int]) -> Link:
        """The link that a group of devices communicates over: the innermost that joins them."""
        return self.links[self.level(devices)]

    def level(self, devices: Sequence[int]) -> int:
        """The number of that link in `links`."""
        for number, link in enumerate(self.links[:-1]):
            if not link.devices or len({d // link.devices for d in devices}) <= 1:
                return number
        return len(self.links) - 1

    def link_name(self, devices: Sequence[int]) -> str:
        """The name of that link."""
        return self.link(devices).name

    def named_link(self, name: str) -> Link:
        """A link by name. Raises PlanError when there is none."""
        found = [link for link in (*self.links, self.copy) if link.name == name]
        if not found:
            known = ", ".join(link.name for link in (*self.links, self.copy))
            raise PlanError(f"cluster {self.name}: no link {name!r}; it has {known}")
        return found[0]


def _cluster(reader: Reader) -> Cluster:
    fields = ("name", "num_devices", "device", "links", "copy", "host", "others")
    data = reader.known((), reader.data, fields, ("num_devices",))
    links = reader.items(("links",), data.get("links", [asdict(link) for link in LINKS]))
    others = reader.items(("others",), data.get("others", []))
    found = Cluster(
        reader.whole(("num_devices",), data["num_devices"]),
        reader.device(("device",), data.get("device", {})),
        tuple(reader.link(("links", i), link) for i, link in enumerate(links)),
        reader.link(("copy",), data["copy"]) if "copy" in data else COPY,
        reader.host(("host",), data.get("host", {})),
        tuple(reader.nodes(("others", i), nodes) for i, nodes in enumerate(others)),
        str(data.get("name", "cluster")),
    )
    if not found.links:
        raise reader.fail(("links",), "expected at least one link, found none")
    if sum(nodes.num_devices for nodes in found.others) > found.num_devices:
        raise reader.fail(("others",), "more devices than the cluster's num_devices")
    return found
