"""The operator graph: modules in blocks, coloured by stage, with their splits."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import superscaler as ss
from superscaler.compiler import partition_of
from superscaler.trace.axes import infer_axes
from superscaler.transform.partition import Partition
from superscaler.view import operator_graph_svg
from superscaler.view.modules import columns_of, edges_of
from superscaler.view.operator_graph import stage_colour

ROOT = Path(__file__).parents[2]
SMALL = {"hidden": "16", "heads": "2", "seq": "8", "batch": "8"}


def gpt(layers: int, plan: str) -> Partition:
    made = ss.load_workload(
        f"{ROOT / 'examples/gpt.py'}:workload", {"layers": str(layers), **SMALL}
    )
    graph = ss.trace(made.step, made.model, made.batch, made.optimizer)
    return partition_of(graph, ss.policies.parse_plan(plan), infer_axes(graph))


@pytest.fixture(scope="module")
def twelve() -> Partition:
    return gpt(12, "hybrid(tp=2, pp=4, microbatches=2)")


def test_a_twelve_layer_model_is_a_column_a_layer(twelve: Partition) -> None:
    columns = columns_of(twelve)
    assert [c.name for c in columns] == ["", *(f"layers.{i}" for i in range(12)), ""]
    stages = [{n.stage for n in c.nodes} for c in columns[1:-1]]
    assert [min(s) for s in stages] == sorted(min(s) for s in stages)  # a cut may be in a layer
    assert set().union(*stages) == {0, 1, 2, 3}
    assert {n.name for n in columns[1].nodes} >= {"norm1", "attention.query", "fc1", "fc2"}


def test_nodes_say_how_they_are_split(twelve: Partition) -> None:
    by_name = {n.name: n for n in columns_of(twelve)[1].nodes}
    assert by_name["fc1"].split == (("mb", 2, "split"), ("tp", 2, "split"))
    assert by_name["fc2"].split == (("mb", 2, "split"), ("tp", 2, "sum"))
    assert by_name["norm1"].split == (("mb", 2, "split"), ("tp", 2, "copy"))
    assert by_name["norm1"].devices == "0-1"


def test_edges_pass_through_operators_of_no_module(twelve: Partition) -> None:
    columns = columns_of(twelve)
    names = [(c, n.name) for c, column in enumerate(columns) for n in column.nodes]
    edges = {(names[a], names[b]) for a, b in edges_of(twelve, columns)}
    assert ((0, "tokens"), (1, "norm1")) in edges
    assert ((1, "fc1"), (1, "own operators")) in edges  # gelu is the block's own


def test_the_picture_has_every_node_in_its_stages_colour(twelve: Partition) -> None:
    root = ElementTree.fromstring(operator_graph_svg(twelve, "gpt <12>"))
    space = "{http://www.w3.org/2000/svg}"
    groups = root.findall(f"{space}g")
    assert len(groups) == sum(len(c.nodes) for c in columns_of(twelve))
    strokes = {g.find(f"{space}rect").get("stroke") for g in groups}
    assert strokes == {stage_colour(s) for s in range(4)}
    titles = [g.find(f"{space}title").text for g in groups]
    assert any("layers.3.fc1.mm: aten.mm.default" in t and "gpt.py:" in t for t in titles)
    assert "gpt <12>" in [t.text for t in root.findall(f"{space}text")]


def test_many_alike_layers_become_one_column() -> None:
    columns = columns_of(gpt(20, "pipeline(pp=2, microbatches=2)"))
    found = [(c.name, c.count) for c in columns if c.name]
    assert len(found) == 2  # one for each stage
    assert sum(count for _, count in found) == 20
    first = found[0][1]
    assert [name for name, _ in found] == [f"layers.0-{first - 1}", f"layers.{first}-19"]
