"""The scheduler's benchmark: its cells, torch's orders, and a run of it."""

import sys
from collections import Counter
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

from bench_schedule import main  # noqa: E402
from scheduling.cells import Cell, cells  # noqa: E402
from scheduling.torch_orders import FORMS, torch_order  # noqa: E402

from superscaler.schedule.check import check  # noqa: E402
from superscaler.schedule.portfolio import apply_order  # noqa: E402


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_schedule.py", *arguments])
    main()


def test_cells_of_the_issue() -> None:
    assert len(cells()) == 3 * 3 * 4 * 4
    assert len({c.name for c in cells()}) == len(cells())


@pytest.mark.parametrize("profile", ["uniform", "gpt", "heavy", "communication"])
def test_all_placements_have_the_same_work(profile: str) -> None:
    totals = set()
    for form in ("linear", "v", "looped", "bidirectional"):
        problem = Cell(4, 4, profile, 1.0).problem(form)
        totals.add((sum(w.duration for w in problem.works), sum(h.amount for h in problem.holds)))
    assert len(totals) == 1


@pytest.mark.parametrize("name", FORMS)
def test_torchs_orders_run_and_are_whole(name: str) -> None:
    order = torch_order(name, 4, 8)
    assert order is not None
    problem = Cell(4, 8, "uniform", 2.0).problem(FORMS[name])
    assert check(problem, apply_order(problem, order).start) == []
    assert max(Counter(a for line in order.lines for a in line).values()) == 1


def test_numbers_that_torch_refuses() -> None:
    assert torch_order("ScheduleDualPipeV", 4, 4) is None


def test_a_run_writes_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "table.md"
    run(monkeypatch, "--cells", "4 x 4 uniform 1.0x", "--time-limit", "2", "--out", str(out))
    text = out.read_text()
    assert "ours above the best other: 0" in text
    assert "| 4 x 4 | uniform | 1.0 |" in text
    assert "torch ZBVZeroBubble v" in text
    assert "dualpipe" in text.split("two copies of the parameters, in ticks")[1]


def test_a_cell_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="no cell's name has '3 x 3' in it"):
        run(monkeypatch, "--cells", "3 x 3")
