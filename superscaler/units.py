"""Units: numbers as people read them: bytes, times, counts, ranks."""

from __future__ import annotations

from collections.abc import Sequence


def bytes_text(count: float) -> str:
    """
    >>> bytes_text(0), bytes_text(2048), bytes_text(5 << 20)
    ('0 B', '2.0 KiB', '5.0 MiB')
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    number, unit = float(count), 0
    while number >= 1024 and unit + 1 < len(units):
        number, unit = number / 1024, unit + 1
    return f"{number:.0f} B" if not unit else f"{number:.1f} {units[unit]}"


def time_text(us: float) -> str:
    """
    >>> time_text(0), time_text(12.34), time_text(45_600), time_text(2.5e6)
    ('0 us', '12.3 us', '45.6 ms', '2.50 s')
    """
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if abs(us) >= size:
            return f"{us / size:.3g} {unit}" if us / size >= 100 else f"{_three(us / size)} {unit}"
    return f"{_three(us)} us" if us else "0 us"


def _three(number: float) -> str:
    """Three significant digits, zeros kept."""
    return (
        f"{number:.2f}"
        if abs(number) < 10
        else f"{number:.1f}"
        if abs(number) < 100
        else f"{number:.0f}"
    )


def count_text(count: float) -> str:
    """
    >>> count_text(950), count_text(124_000_000)
    ('950', '124M')
    """
    units = ("", "K", "M", "G", "T", "P")
    number, unit = float(count), 0
    while number >= 1000 and unit + 1 < len(units):
        number, unit = number / 1000, unit + 1
    return f"{number:.3g}{units[unit]}"


def ranks_text(ranks: Sequence[int], most: int = 8) -> str:
    """Ranks as runs, cut after `most` of them.

    >>> ranks_text([0, 1, 2, 5]), ranks_text([3])
    ('0-2, 5', '3')
    >>> ranks_text(range(0, 40, 2), most=3) == "0, 2, 4, ... (20)"
    True
    """
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    shown = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:most]]
    return ", ".join(shown + ([f"... ({len(ranks)})"] if len(runs) > most else []))


def named_ranks(ranks: Sequence[int], most: int = 8) -> str:
    """
    >>> named_ranks([3]), named_ranks([0, 1, 2, 5])
    ('rank 3', 'ranks 0-2, 5')
    """
    return f"rank{'s' if len(ranks) != 1 else ''} {ranks_text(ranks, most)}"
