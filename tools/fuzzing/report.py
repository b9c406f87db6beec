"""The summary of many trials: verdicts, refusals by class, conversions by kind."""

from __future__ import annotations

from collections import Counter

from fuzzing.trial import ACCEPTED, FAILED, REFUSED, Outcome

MAX_SHOWN = 25


class Summary:
    """Counts outcomes and prints them as tables."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    @property
    def num_failed(self) -> int:
        return len(self._with(FAILED))

    def text(self, seconds: float) -> str:
        """All tables, for a terminal."""
        total = max(1, len(self.outcomes))
        lines = [f"{len(self.outcomes)} plans in {seconds:.0f} s"]
        for verdict in (ACCEPTED, REFUSED, FAILED):
            found = self._with(verdict)
            kinds = Counter(o.kind for o in found)
            split = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
            lines.append(f"  {verdict:9} {len(found):5}  {len(found) / total:4.0%}  {split}")
        lines += self._accepted()
        lines += _table("refused because", Counter(o.why for o in self._with(REFUSED)))
        lines += _table("failed", Counter(o.why for o in self._with(FAILED)))
        lines += self._conversions()
        return "\n".join(lines)

    def _with(self, verdict: str) -> list[Outcome]:
        return [o for o in self.outcomes if o.verdict == verdict]

    def _accepted(self) -> list[str]:
        accepted = self._with(ACCEPTED)
        devices = Counter(o.devices for o in accepted)
        shown = ", ".join(f"{n} on {d}" for d, n in sorted(devices.items()))
        models = Counter(o.subject for o in accepted)
        split = sum(o.is_split for o in accepted)
        return [
            f"accepted plans by devices: {shown}; {split} split something",
            f"accepted plans by model: {', '.join(f'{n} {m}' for m, n in models.most_common())}",
        ]

    def _conversions(self) -> list[str]:
        total: Counter[str] = Counter()
        for outcome in self._with(ACCEPTED):
            total += outcome.conversions
        share = total["general"] / max(1, sum(total.values()))
        lines = _table("conversions of accepted plans", total)
        return [*lines, f"on the general path: {share:.0%} of {sum(total.values())} conversions"]


def _table(title: str, counts: Counter[str]) -> list[str]:
    rows = [f"  {n:6}  {name}" for name, n in counts.most_common(MAX_SHOWN)]
    rest = len(counts) - len(rows)
    more = [f"  and {rest} more kinds"] if rest > 0 else []
    return [f"{title}:", *rows, *more] if rows else []
