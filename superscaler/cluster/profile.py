"""Profile: measured times of operators and communications, in place of the model's."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import exp, log
from pathlib import Path

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.communication import collective_us
from superscaler.cluster.machine import Device
from superscaler.cluster.operators import OperatorWork, roofline_us
from superscaler.errors import PlanError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """A measured operator: the median of several runs."""

    work: OperatorWork
    us: float


@dataclass(frozen=True, slots=True)
class LinkTime:
    """A measured communication, `num_bytes` as in `collective_us`.

    `busy` is the part of the time in which it kept the link busy and, where processors communicate,
    one of each rank: Gloo's threads wait for each other the rest of the time.
    """

    kind: str
    link: str
    num_ranks: int
    num_bytes: float
    us: float
    busy: float = 1.0


@dataclass(frozen=True)
class Profile:
    """Measurements on devices of one kind.

    An operator that was measured takes the time that was found; one of the same target and dtype
    with other shapes takes the roofline's time, times the factor by which the measured ones of
    about its size were off. So do communications in groups of a size that was not measured.
    """

    device: str
    operators: tuple[OperatorTime, ...] = ()
    links: tuple[LinkTime, ...] = ()
    _exact: dict[object, float] = field(default_factory=dict, repr=False, compare=False)
    _near: dict[object, list[OperatorTime]] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def load(path: str | Path) -> Profile:
        """A profile from its file. Raises PlanError when there is none, or it is malformed."""
        try:
            data = json.loads(Path(path).read_text())
            if data["format"] != FORMAT:
                raise PlanError(f"profile {path}: expected format {FORMAT}, found {data['format']}")
            operators = tuple(_operator(row) for row in data["operators"])
            links = tuple(LinkTime(*row) for row in data["links"])
            return Profile(str(data["device"]), operators, links)
        except FileNotFoundError:
            raise PlanError(
                f"profile {str(path)!r}: no such file; make one with superscaler profile"
            ) from None
        except OSError as error:
            raise PlanError(
                f"profile {str(path)!r} cannot be read: {error.strerror}; give the file that "
                "superscaler profile wrote"
            ) from None
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise PlanError(
                f"profile {path}: not a profile ({type(error).__name__}: {error}); write one with "
                "superscaler profile --out"
            ) from None

    def save(self, path: str | Path) -> None:
        """Write the file that `load` reads."""
        rows = [
            [t.work.target, t.work.dtype, t.work.flops, t.work.num_bytes, t.work.shapes, t.us]
            for t in self.operators
        ]
        links = [[t.kind, t.link, t.num_ranks, t.num_bytes, t.us, t.busy] for t in self.links]
        lines = [f'"format": {FORMAT}', f'"device": {json.dumps(self.device)}']
        for name, table in (("operators", rows), ("links", links)):
            body = ",\n".join(json.dumps(row) for row in table)
            lines.append(f'"{name}": [\n{body}\n]')
        Path(path).write_text("{\n" + ",\n".join(lines) + "\n}\n")

    def operator_us(self, work: OperatorWork, device: Device) -> float | None:
        """The measured, or corrected, time; None for an operator that was not measured at all.

        Raises PlanError when the profile is of another kind of device.
        """
        self._require(device)
        self._index()
        exact = self._exact.get((work.target, work.dtype, work.shapes))
        if exact is not None:
            return exact
        near = self._near.get((work.target, work.dtype))
        if not near:
            return None
        factors = [(_size(t.work), t.us / roofline_us(t.work, device)) for t in near]
        return roofline_us(work, device) * _factor(factors, _size(work))

    def _require(self, device: Device) -> None:
        if device.kind != self.device:
            raise PlanError(
                f"the profile was measured on {self.device}, the cluster's device is "
                f"{device.kind}; use the cluster that superscaler profile wrote beside the profile "
                "(--cluster build/measured.yaml unless told otherwise), or another profile, or none"
            )

    def _index(self) -> None:
        if self._exact or not self.operators:
            return
        for t in self.operators:
            self._exact[t.work.target, t.work.dtype, t.work.shapes] = t.us
            self._near.setdefault((t.work.target, t.work.dtype), []).append(t)
        for times in self._near.values():
            times.sort(key=lambda t: (_size(t.work), t.us))

    def communication_us(
        self, kind: str, num_bytes: float, ranks: Sequence[int], cluster: Cluster
    ) -> float | None:
        """The time between measured sizes of the same kind on the same link; None without any.

        Raises PlanError when the profile is of another kind of device.
        """
        times = self._nearest(kind, ranks, cluster)
        if not times:
            return None
        measured, nearest = _between(times, num_bytes), times[0].num_ranks
        if nearest == len(ranks) or kind == "move":
            return measured
        alike = replace(cluster, links=(cluster.link(ranks),))
        model = collective_us(kind, num_bytes, range(nearest), alike)
        return measured / model * collective_us(kind, num_bytes, ranks, cluster)

    def busy(self, kind: str, num_bytes: float, ranks: Sequence[int], cluster: Cluster) -> float:
        """The part of that time in which link and processors are busy; all of it where nothing like
        it was measured. Raises PlanError as `communication_us` does."""
        points = sorted((t.num_bytes, t.busy) for t in self._nearest(kind, ranks, cluster))
        return _factor(points, max(num_bytes, points[0][0])) if points else 1.0

    def _nearest(self, kind: str, ranks: Sequence[int], cluster: Cluster) -> list[LinkTime]:
        """What was measured of a kind on the ranks' link, in groups nearest to theirs in size."""
        self._require(cluster.device(ranks[0]))
        link, count = cluster.link(ranks), len(ranks)
        times = [t for t in self.links if (t.kind, t.link) == (kind, link.name)]
        sizes = {t.num_ranks for t in times}
        nearest = min(sizes, key=lambda n: (abs(log(n / count)), n), default=0)
        return [t for t in times if t.num_ranks == nearest]


def _operator(row: list[object]) -> OperatorTime:
    target, dtype, flops, num_bytes, shapes, us = row
    sizes = tuple(tuple(s) for s in shapes)  # type: ignore[attr-defined]
    work = OperatorWork(str(target), str(dtype), float(flops), float(num_bytes), sizes)  # type: ignore[arg-type]
    return OperatorTime(work, float(us))  # type: ignore[arg-type]


def _between(times: list[LinkTime], num_bytes: float) -> float:
    """The time at a size: in proportion above the largest, as the smallest below that."""
    points = sorted((t.num_bytes, t.us) for t in times)
    if num_bytes > points[-1][0]:
        return points[-1][1] * num_bytes / points[-1][0]
    return _factor(points, max(num_bytes, points[0][0]))


def _size(work: OperatorWork) -> float:
    return max(work.flops, work.num_bytes, 1.0)


def _factor(points: list[tuple[float, float]], size: float) -> float:
    """Interpolated between neighbours in size, on logarithmic scales."""
    at = bisect_left(points, (size, 0.0))
    if at == 0:
        return points[0][1]
    if at == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[at - 1], points[at]
    share = (log(size) - log(x0)) / (log(x1) - log(x0)) if x1 > x0 else 0.0
    return exp(log(y0) + share * (log(y1) - log(y0)))
