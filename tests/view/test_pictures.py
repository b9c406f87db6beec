"""PNG, SVG and terminal pictures, and the page's compact data."""

from __future__ import annotations

import base64
import gzip
import json
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from fake_steps import one_f_one_b

from superscaler.view import chart, html_page, picture_text
from superscaler.view.palette import MARKS
from superscaler.view.payload import payload


@pytest.mark.parametrize("form", ["png", "svg"])
def test_charts_are_pictures_and_reproducible(form: str) -> None:
    picture = chart(one_f_one_b(4, 8), form)
    assert picture == chart(one_f_one_b(4, 8), form)
    if form == "png":
        assert picture.startswith(b"\x89PNG")
    else:
        assert ElementTree.fromstring(picture).tag.endswith("svg")


def test_terminal_tells_kinds_apart_without_colour() -> None:
    text = picture_text(one_f_one_b(4, 8), 160)
    line = next(t for t in text.splitlines() if t.startswith("rank 0"))
    assert all(MARKS[kind].cell in line for kind in ("F", "B", "W", "U"))
    assert len({MARKS[k].cell for k in MARKS}) == len(MARKS)
    assert "\x1b" not in text
    assert "step time                42.3 ms" in text


@pytest.mark.parametrize("width", [60, 80, 132, 200])
def test_terminal_keeps_to_its_width(width: int) -> None:
    lines = picture_text(one_f_one_b(4, 8), width).splitlines()
    drawn = [line for line in lines if line.startswith("rank ")]
    assert len(drawn) == 4
    assert width - 4 <= max(map(len, drawn)) <= width


def test_terminal_of_many_ranks_says_what_it_leaves_out() -> None:
    text = picture_text(one_f_one_b(40, 40), 100)
    assert "8 of 40 lines are left out" in text
    assert "rank 0 " in text
    assert "rank 39" in text


def test_terminal_mixes_tasks_narrower_than_a_column() -> None:
    line = next(t for t in picture_text(one_f_one_b(4, 200), 80).splitlines() if "rank 3" in t)
    assert min(line.count(MARKS[k].cell) for k in "FBW") >= 8


def test_the_payload_says_what_the_simulation_says() -> None:
    step = one_f_one_b(4, 8)
    blob = gzip.decompress(base64.b64decode(payload(step)))
    length = int(np.frombuffer(blob, np.uint32, 1)[0])
    head = json.loads(blob[4 : 4 + length])
    row = head["rows"][0]
    assert row[:2] == [0, "compute"]
    starts = np.cumsum(np.frombuffer(blob, np.uint32, row[2], 4 + length)) * head["tick_us"]
    events = [e for e in step.classes[0].events if e.lane == "compute"]
    assert starts == pytest.approx([e.start_us for e in events], abs=0.01)
    assert payload(step) == payload(step)


def test_long_memory_curves_keep_their_peak() -> None:
    step = one_f_one_b(4, 8)
    curve = [(float(i), i % 97) for i in range(150_000)]
    curve[77_777] = (77_777.0, 10**9)
    classes = tuple(replace(c, memory=tuple(curve), peak_bytes=10**9) for c in step.classes)
    blob = gzip.decompress(base64.b64decode(payload(replace(step, classes=classes))))
    head = json.loads(blob[4 : 4 + int(np.frombuffer(blob, np.uint32, 1)[0])])
    assert head["classes"][0]["points"] <= 100_002
    count = head["classes"][-1]["points"]
    assert np.frombuffer(blob, np.float64, count, len(blob) - 8 * count).max() == 10**9


def test_the_page_is_self_contained_and_escapes_what_it_shows() -> None:
    page = html_page(one_f_one_b(4, 8))
    assert "<script src" not in page
    assert '<link rel="stylesheet' not in page
    assert "stage 3 is &lt;slow&gt; &amp; alone" in page
    assert len(page) < 6e6


def test_a_page_of_640_thousand_events_is_small_and_soon_made() -> None:
    step = one_f_one_b(64, 2000)
    assert sum(len(c.events) for c in step.classes) > 630_000
    begun = time.process_time()
    assert len(html_page(step)) < 8e6
    assert time.process_time() - begun < 30
