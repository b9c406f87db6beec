"""The page in a real browser: it draws, hovers, zooms, searches, and shows the report's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from fake_steps import one_f_one_b

from superscaler.view import html_page

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser.browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "4.html").write_text(html_page(one_f_one_b(4, 8)), "utf-8")
    (folder / "64.html").write_text(html_page(one_f_one_b(64, 2000)), "utf-8")
    (folder / "1024.html").write_text(html_page(one_f_one_b(16, 64, 64)), "utf-8")
    return folder


@pytest.fixture
def page(driver: Any, pages: Path) -> Any:
    browser.open_page(driver, pages / "4.html")
    yield driver
    assert browser.errors(driver) == []


def point_at(driver: Any, us: float, row: str) -> str:
    """Move the mouse to a time on a row (JavaScript that finds it); the tooltip's text."""
    from selenium.webdriver import ActionChains

    x, y = driver.execute_script(
        f"""const p = superscaler, b = p.boxes().rows, v = p.view, r = {row};
        p.plot.scrollIntoView({{block: "start", behavior: "instant"}});
        const f = p.plot.getBoundingClientRect();
        return [f.left + b.left + ({us} - v.x0) / (v.x1 - v.x0) * b.width,
          f.top + b.top + ((r.top + r.bottom) / 2 - v.y0) / (v.y1 - v.y0) * b.height];"""
    )
    actions = ActionChains(driver)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.perform()
    return str(driver.find_element("id", "tip").text)


def test_a_hover_shows_what_runs_there(page: Any) -> None:
    start = page.execute_script("return superscaler.model.rows[0].start[0]")
    text = point_at(page, start + 150, "superscaler.model.rows[0]")
    assert "forward_0" in text
    assert "forward, stage 0, microbatch 0" in text
    here = page.find_element("css selector", "#tip tr.here").text
    for part in ("layers.0.attn.qkv", "aten.mm", "gpt.py:41", "float32[4, 64, 512]", "512.0 KiB"):
        assert part in here


def test_a_message_says_what_moves_where(page: Any) -> None:
    row = "superscaler.model.rows[1]"
    middle = page.execute_script(f"return ({row}.start[0] + {row}.end[0]) / 2")
    text = point_at(page, middle, row)
    assert "activation to stage 1" in text
    assert "16.0 MiB with rank 1" in text


def test_pointing_at_memory_lists_the_ranks(page: Any) -> None:
    from selenium.webdriver import ActionChains

    plot = page.find_element("id", "plot")
    ActionChains(page).move_to_element_with_offset(
        plot, 0, plot.size["height"] // 2 - 120
    ).perform()
    text = page.find_element("id", "tip").text
    assert text.startswith("memory at")
    assert "rank 3" in text


def test_dragging_zooms_both_panels(page: Any) -> None:
    from selenium.webdriver import ActionChains

    plot = page.find_element("id", "plot")
    page.execute_script("arguments[0].scrollIntoView()", plot)
    before = page.execute_script("return superscaler.view")
    actions = ActionChains(page).move_to_element_with_offset(plot, -200, -100).click_and_hold()
    actions.move_by_offset(120, 3).move_by_offset(100, 0).release().perform()
    after = page.execute_async_script(
        "const done = arguments[0]; setTimeout(() => done(superscaler.view), 500)"
    )
    width = (after["x1"] - after["x0"]) / (before["x1"] - before["x0"])
    assert 0.1 < width < 0.35


def test_keys_zoom_and_come_back(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    body = page.find_element("tag name", "body")
    wait = "const done = arguments[0]; setTimeout(() => done(superscaler.view), 400)"
    whole = page.execute_async_script(wait)
    body.send_keys("w")
    closer = page.execute_async_script(wait)
    assert closer["x1"] - closer["x0"] < 0.8 * (whole["x1"] - whole["x0"])
    body.send_keys("0", Keys.NULL)
    assert page.execute_async_script(wait) == whole


def test_search_counts_marks_and_jumps(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    box = page.find_element("id", "search")
    box.send_keys("layers.2.attn.QKV")
    assert page.find_element("id", "count").text == "3 operators in 3 functions, 24 tasks"
    marked = page.execute_script(
        "const p = superscaler; return p.model.templates.filter((t, k) => p.result.found[k])"
        ".map((t) => t.what)"
    )
    assert sorted(marked) == ["backward_2", "forward_2", "weight_2"]
    box.send_keys(Keys.ENTER)
    wait = "const done = arguments[0]; setTimeout(() => done(superscaler.view), 400)"
    view = page.execute_async_script(wait)
    assert view["x1"] - view["x0"] < 0.2 * one_f_one_b(4, 8).step_us
    assert "layers.2.attn.qkv" in page.find_element("id", "detail").text
    box.clear()
    box.send_keys("gpt.py:46")
    assert page.find_element("id", "count").text.startswith("12 operators in 12 functions")
    box.clear()
    box.send_keys("no such thing")
    assert page.find_element("id", "count").text == "nothing found"


def test_the_memory_curves_maximum_is_the_reports(page: Any) -> None:
    most = page.execute_script("return superscaler.curves.maximum()")
    assert most == one_f_one_b(4, 8).peak_bytes
    cards = page.find_element("class name", "cards").text
    assert "3.4 GiB" in cards
    assert "33.7%" in cards


def test_the_canvas_has_the_tasks_colours(page: Any) -> None:
    """The pixel in the middle of each of the first rank's tasks is that task's colour."""
    wrong = page.execute_script(
        """const p = superscaler, row = p.model.rows[0], b = p.boxes().rows, v = p.view;
        const y = b.top + (row.top + 0.08 - v.y0) / (v.y1 - v.y0) * b.height, wrong = [];
        const line = p.under.getContext("2d").getImageData(0, Math.round(y), p.under.width, 1).data;
        for (let i = 0; i < row.start.length; i++) {
          const moment = p.model.moments[row.moment[i]];
          const look = p.looks.of(p.model.templates[row.template[i]], moment);
          if (look.hatch) continue;
          const middle = (row.start[i] + row.end[i]) / 2;
          const x = Math.round(b.left + (middle - v.x0) / (v.x1 - v.x0) * b.width);
          const seen = [...line.slice(4 * x, 4 * x + 3)];
          if (seen.some((c, k) => Math.abs(c - look.rgb[k]) > 3)) wrong.push([i, seen, look.rgb]);
        }
        return wrong;"""
    )
    assert wrong == []


def test_640_thousand_events_stay_responsive(driver: Any, pages: Path) -> None:
    browser.open_page(driver, pages / "64.html")
    assert driver.execute_script("superscaler.redraw(); return superscaler.drawnMs") < 1500
    driver.execute_script("superscaler.zoomTo(1e6, 1.006e6)")
    wait = "const done = arguments[0]; setTimeout(() => done(superscaler.drawnMs), 600)"
    assert driver.execute_async_script(wait) < 300
    text = point_at(driver, 1.003e6, "superscaler.model.rows[20]")
    assert "rank 10" in text
    assert "layers.10." in text
    step = one_f_one_b(64, 2000)
    assert driver.execute_script("return superscaler.curves.maximum()") == step.peak_bytes
    assert browser.errors(driver) == []


def test_1024_ranks_are_shown_by_class(driver: Any, pages: Path) -> None:
    browser.open_page(driver, pages / "1024.html")
    names = driver.execute_script("return superscaler.plot.layout.yaxis.ticktext.join()")
    assert "ranks 64-127" in names
    driver.find_element("id", "search").send_keys("layers.3.norm")
    assert "12,288 tasks" in driver.find_element("id", "count").text
    assert browser.errors(driver) == []
