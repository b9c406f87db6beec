"""HTML: one page of a simulation that needs nothing but a browser, not even a network."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment
from markupsafe import Markup

from superscaler.simulate.simulation import Simulation
from superscaler.units import bytes_text
from superscaler.view.payload import payload
from superscaler.view.report import cards, rank_lines

_SCRIPTS = ("text", "data", "colours", "timeline", "memory", "hover", "search", "matrix", "main")


def html_page(simulation: Simulation) -> str:
    """The page: timeline, memory, communication, summary and plan, with all scripts inside."""
    from plotly.offline import get_plotlyjs

    template = Environment(autoescape=True, keep_trailing_newline=True).from_string(
        _text("page.html.j2")
    )
    return template.render(
        s=simulation,
        cards=cards(simulation),
        ranks=rank_lines(simulation),
        links=[(n, bytes_text(b)) for n, b in sorted(simulation.link_bytes.items())],
        css=Markup(_text("page.css")),
        data=Markup(payload(simulation)),
        plotly=Markup(get_plotlyjs()),
        scripts=Markup("\n".join(_text(f"{name}.js") for name in _SCRIPTS)),
    )


def _text(name: str) -> str:
    return files("superscaler.view").joinpath("page", name).read_text("utf-8")
