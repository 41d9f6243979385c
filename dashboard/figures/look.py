"""The look that all charts share."""

from textwrap import wrap
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from dashboard.theme import LIGHT, Surface

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


def layout(figure: go.Figure, title: str, height: int = 380, above: int = 0, **options: Any) -> go.Figure:
    """The look all charts share. `above`: pixels that words need between the title and the plot."""
    lines = wrap(title, 38, break_on_hyphens=False)  # what fits beside another chart, or on a telephone
    # Stood on the plot, in pixels: hung from the top, plotly cuts a title of two lines in half.
    stood = {"y": 1, "yref": "paper", "yanchor": "bottom", "pad": {"b": 14 + above + 21 * (len(lines) - 1), "l": 4}}
    figure.update_layout(
        title={"text": "<br>".join(lines), "font": {"size": 16}, "x": 0, "xanchor": "left", **stood},
        height=height,
        margin={"l": 8, "r": 8, "t": 34 + above + 20 * len(lines), "b": 8},
        legend={"orientation": "h", "y": 0, "yref": "container", "yanchor": "bottom", "x": 0, "title": None},
        meta={"above": above},  # whoever draws it with other margins needs it
        **options,
    )
    figure.update_xaxes(automargin=True, exponentformat="none")
    figure.update_yaxes(automargin=True, exponentformat="none")  # 0.0008, not 800µ
    return figure


def load_template(surface: Surface) -> dict:
    """Plotly's look of all charts on a light or a dark page."""
    return pio.templates["plotly_white" if surface is LIGHT else "plotly_dark"].to_plotly_json()


def describe_look(surface: Surface) -> dict:
    """What the layouts of all charts share on a light or a dark page."""
    colors = {"paper_bgcolor": surface.background, "plot_bgcolor": surface.background}
    return {"template": load_template(surface), **colors, "font": {"family": FONT, "color": surface.text}}
