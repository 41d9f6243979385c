"""Claims as a compact table: verdict, claim, effect with a small drawn interval; numbers and test on demand. No streamlit here."""

from collections.abc import Sequence

from core.findings import SHARES, Finding, show_effect
from dashboard import theme
from dashboard.diagram import TEMPLATES


def place(findings: Sequence[Finding]) -> dict[str, dict]:
    """Where each effect lies, in percent of the drawing's width; those of one unit share a scale that has its neutral point inside."""
    scales: dict[str, list[float]] = {}
    base = {one.id: 0.0 if one.unit in SHARES else one.neutral for one in findings}
    for one in findings:
        ends = [one.effect, one.neutral, *(one.interval or ()), *one.seeds.values()] if one.effect is not None else []
        scales.setdefault(one.unit, []).extend(abs(end - base[one.id]) for end in ends)
    drawn = {}
    for one in findings:
        widest = 1.1 * max(scales[one.unit], default=0)
        if one.effect is not None and widest:

            def at(value: float, start: float = base[one.id], widest: float = widest) -> float:
                return round(50 + 50 * (value - start) / widest, 2)

            low, high = map(at, one.interval) if one.interval else (None, None)
            drawn[one.id] = {
                "effect": at(one.effect),
                "neutral": at(one.neutral),
                "low": low,
                "high": high,
                "seeds": [*map(at, one.seeds.values())],
            }
    return drawn


def claims_html(findings: Sequence[Finding]) -> str:
    """The table, escaped."""
    drawn, rows = place(findings), []
    for one in findings:
        mark, color = theme.VERDICTS[one.verdict]
        words = {"claim": one.claim, "verdict": one.verdict, "statement": one.statement, "details": one.details, "test": one.test}
        rows.append({"mark": mark, "color": color, "effect": show_effect(one), "n": f"{one.n:,}", "drawn": drawn.get(one.id), **words})
    return TEMPLATES.get_template("claims.html").render(rows=rows)
