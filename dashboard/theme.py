"""How models and classes look: one colour, dash, marker, label and order for each, everywhere.

The colours keep 3:1 contrast on both backgrounds and stay apart under the common colour-vision deficiencies (Okabe & Ito
2008, darkened); dash and marker repeat what they say.
"""

from dataclasses import dataclass

from core.config import ENSEMBLE, MODELS
from core.config import label as label_model

SHOWN_MODELS = (*MODELS, ENSEMBLE)


@dataclass(frozen=True)
class Style:
    label: str
    color: str
    dash: str
    marker: str


LOOKS = {
    "resnet18": ("#2f7fc1", "dash", "circle"),
    "mobilenet_v2": ("#d05f00", "dot", "square"),
    "fusion": ("#00936c", "solid", "diamond"),
    "resnet34": ("#a0458c", "longdashdot", "triangle-up"),
    "ensemble": ("#8a7390", "dashdot", "x"),
    "oracle": ("#7d8683", "longdash", "cross"),
}
STYLES = {name: Style(label_model(name), *look) for name, look in LOOKS.items()}
FOR, AGAINST = "#ff8c1a", "#2f9bff"  # evidence on a grey picture
GOOD, BAD, NEUTRAL = "#00936c", "#c2413a", "#7d8683"
FINE = ("NLL", "Brier", "AURC")  # measures told in four digits after the point, where others take two
VERDICTS = {  # of a finding -> mark and colour
    "supported": ("✓", GOOD),
    "not distinguishable": ("≈", NEUTRAL),
    "contradicted": ("✗", BAD),
    "untested": ("?", NEUTRAL),
}
CLASS_COLORS = (  # in the order of core.config.CLASSES; those often confused are furthest apart, also when colour vision is deficient
    *("#606c30", "#9c9024", "#9084e4", "#186cfc", "#d8000c"),
    *("#c06c78", "#9c48cc", "#006c90", "#f054b4", "#c00c84"),
)


@dataclass(frozen=True)
class Surface:
    """Colours of a theme that a figure or an HTML block must know."""

    background: str
    text: str
    faint: str  # lines, empty cells


LIGHT = Surface("#ffffff", "#0b1210", "#dfe5e2")
DARK = Surface("#12171a", "#e7ecea", "#37413f")


def label(model: str) -> str:
    """A model's name in words; RUN/MODEL is of another run than the one shown."""
    run, _, own = model.rpartition("/")
    return f"{label_model(own)} of {run}" if run else label_model(own)


def mix(color: str, other: str, share: float) -> str:
    """`share` of hex `color` over hex `other`, as hex."""
    channels = ((int(color[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in channels)
