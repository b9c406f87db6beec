"""View: pictures of simulations, and of a partition's operators.

`html_page`, `perfetto_json`, `chart` and `terminal_picture` draw a `simulate.Simulation`;
`operator_graph_svg` draws a `transform.Partition`.
"""

from superscaler.view.chart import chart
from superscaler.view.html import html_page
from superscaler.view.operator_graph import operator_graph_svg
from superscaler.view.perfetto import perfetto_json
from superscaler.view.terminal import picture_text, terminal_picture

__all__ = [
    "chart",
    "html_page",
    "operator_graph_svg",
    "perfetto_json",
    "picture_text",
    "terminal_picture",
]
