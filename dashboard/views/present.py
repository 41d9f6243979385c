"""Present: one statement a screen, for a projector; made from the run's results, so it is true for any run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape

import pandas as pd
import streamlit as st

from core.config import CLASSES
from core.findings import UNTESTED, Finding
from dashboard import address, claims, components, data, diagram, report, theme

CSS = f"""<style>
[data-testid=stSidebar], [data-testid=stHeader], [data-testid=stExpandSidebarButton] {{ display: none; }}
[data-testid=stMainBlockContainer] {{ max-width: 1800px; padding: 3vh 4vw 6rem; }}
[data-testid=stMainBlockContainer] h1 {{ font-size: clamp(1.7rem, 3.2vw, 3.4rem); line-height: 1.15; text-wrap: balance; }}
.said {{ font-size: clamp(1.1rem, 1.5vw, 1.7rem); line-height: 1.45; }} .said p, .said li {{ margin: 0 0 .7em; }}
.said .verdict {{ border-left: .4em solid var(--verdict); padding-left: .6em; }}
.net {{ font-size: clamp(14px, 1.3vw, 22px) !important; }}
.st-key-remote {{ position: fixed; z-index: 9; left: 0; right: 0; bottom: 0; padding: .6rem 4vw; background: var(--st-background-color); }}
{report.CARDS_CSS} .cards figure {{ font-size: clamp(13px, 1vw, 18px); }}
</style>"""
LEFT_OUT = ("accuracy-other", "worst-class", "probe")  # another screen says as much
CARDS = 8  # images on a screen

run, _ = st.session_state["current"]
answers, summary = data.load_answers(run), data.load_summary(run)
headline, findings = data.load_findings(run)


@dataclass(frozen=True)
class Screen:
    """One statement, what else is said (HTML) and what is shown, below or, where `beside`, to the right of it."""

    statement: str
    said: str
    show: Callable[[], None]
    beside: bool = False


def show_chart(finding: Finding) -> None:
    figure = claims.draw(run, finding, findings, components.surface())
    if figure:
        figure.update_layout(font={"size": 17}, title={"font": {"size": 20}}, height=max(figure.layout.height, 420))
        st.plotly_chart(figure, config={"displayModeBar": False}, alt=figure.layout.title.text, key=f"chart_{finding.id}")


def show_cards(rows: pd.DataFrame) -> None:
    st.html(report.cards_html(rows, run.models, data.load_images(), 170) if len(rows) else "<p class=said>There is none.</p>")


def find_disputed() -> pd.DataFrame:
    """Fusion's errors on the images whose label the fewest people chose."""
    wrong = answers[~answers["fusion_correct"]]
    return wrong.sort_values("people", kind="stable").head(CARDS)


def make_screen(finding: Finding) -> Screen:
    """The statement; its numbers, verdict and test beside its chart, or images for one on people."""
    mark, color, _ = theme.VERDICTS[finding.verdict]
    said = (
        f'<p class="verdict" style="--verdict:{color}">Claim: {escape(finding.claim)}<br>'
        f"<b>{mark} {escape(finding.verdict)}</b></p><p>{escape(finding.details)}</p>"
    )
    if finding.test:
        said += f"<p><small>{escape(finding.test)}; n = {finding.n:,}</small></p>"
    if finding.id == "people" and finding.verdict != UNTESTED:
        return Screen(finding.statement, said + "<p>Fusion's errors where people agree least:</p>", lambda: show_cards(find_disputed()))
    return Screen(finding.statement, said, partial(show_chart, finding), beside=True)


def make_screens() -> list[Screen]:
    """Question, data, models, findings, images, limits."""
    recipe, samples = run.recipe, answers.groupby("label").sample(8, random_state=0).sort_values("label")["index"].tolist()
    budget = (
        f"The same for all three: {recipe.epochs} epochs, of which {recipe.frozen_epochs} with the head alone; images enlarged to "
        f"{recipe.image_size}×{recipe.image_size}; the same augmentation, optimizer and learning rates; seed {run.record['seed']}. "
        "A fourth answer costs no training: the ensemble, the mean of the two baselines' probabilities."
    )
    cifar = f"CIFAR-10, 32×32 pixels: 45,000 images to train, 5,000 to choose, 10,000 to test; {len(answers):,} of these were answered."
    keys = f"<p><small>Run {escape(run.name)}. Arrow keys turn the pages, Esc leaves.</small></p>"
    return [
        Screen(report.QUESTION, f"<p>{escape(headline.sentence)}</p><p>{escape(headline.numbers)}</p>{keys}", lambda: None),
        Screen("Ten classes of small pictures", f"<p>{cifar}</p>", lambda: st.html(diagram.sample_html(samples, CLASSES))),
        Screen("Three models, one budget", f"<p>{escape(budget)}</p>", lambda: st.html(diagram.architecture_html(run))),
        *(make_screen(finding) for finding in findings if finding.id not in LEFT_OUT and finding.verdict != UNTESTED),
        *(Screen(title, "", partial(show_cards, rows)) for title, rows in report.pick_images(answers, run.models, CARDS).items()),
        Screen("What this does not say", report.list_html(report.list_limits(run, findings, len(answers))), lambda: None),
    ]


def turn(pages: int) -> None:
    """Go `pages` on, or back, within the screens."""
    st.session_state["step"] = min(max(step + pages, 1), len(screens))


screens = make_screens()
st.html(CSS)
with st.container(key="remote", horizontal=True, vertical_alignment="center"):
    back, pages, on, leave = (st.container(width="content") for _ in range(4))
    with pages:
        step = address.pick_page(len(screens), key="step", max_visible_pages=5)
    back.button("Back", shortcut="Left", on_click=turn, args=[-1])
    on.button("Next", shortcut="Right", on_click=turn, args=[1], type="primary")
    if leave.button("Leave", shortcut="Esc"):
        st.switch_page("views/overview.py", query_params=address.parameters(back=False))

screen = screens[step - 1]
st.title(screen.statement)
said, shown = st.columns([1, 1.5], gap="large") if screen.beside else (st.container(), st.container())
said.html(f'<div class="said">{screen.said}</div>')
with shown:
    screen.show()
