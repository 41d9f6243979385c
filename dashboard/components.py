"""Widgets that more than one page uses."""

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.config import CLASSES, UserError
from core.results import rebuild_command
from dashboard import data, figures, selection, theme, thumbnails
from dashboard.data import Finding, Run

GALLERY_CSS = """
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(72px, 1fr)); gap: 8px 6px; }
button { border: 2px solid transparent; border-radius: 6px; background: none; padding: 3px; cursor: pointer; font: inherit;
  color: var(--st-text-color); text-align: center; }
button:hover, button:focus-visible { border-color: var(--st-primary-color); outline: none; }
button[aria-pressed=true] { border-color: var(--st-primary-color); background: var(--st-secondary-background-color); }
.thumb { display: block; width: 64px; height: 64px; margin: 0 auto; border-radius: 3px; image-rendering: pixelated; }
.caption { display: block; font-size: 11px; line-height: 1.25; margin-top: 2px; overflow-wrap: anywhere; }
"""
GALLERY_JS = """
export default function({ data, parentElement, setTriggerValue }) {
  const grid = parentElement.querySelector('.grid')
  const sheet = `url(data:image/png;base64,${data.sprite})`
  grid.replaceChildren(...data.items.map((item, position) => {
    const button = document.createElement('button')
    button.title = item.alt
    button.dataset.index = item.index
    button.setAttribute('aria-label', `image ${item.index}: ${item.alt}`)
    button.setAttribute('aria-pressed', item.index === data.chosen)
    const thumb = document.createElement('span')
    thumb.className = 'thumb'
    thumb.style.backgroundImage = sheet
    thumb.style.backgroundSize = `${64 * data.columns}px auto`
    thumb.style.backgroundPosition = `-${64 * (position % data.columns)}px -${64 * Math.floor(position / data.columns)}px`
    const caption = document.createElement('span')
    caption.className = 'caption'
    caption.textContent = item.caption
    button.append(thumb, caption)
    button.onclick = () => setTriggerValue('chosen', item.index)
    return button
  }))
}
"""


def pick_run() -> Run | None:
    """The sidebar's run picker; says what is wrong with damaged runs. None where there is nothing to show."""
    names, damaged = data.check_runs()
    for error in damaged.values():
        st.sidebar.warning(error)
    if not names:
        return None
    name = st.sidebar.selectbox("Run", names, key="run", bind="query-params", help="One recipe and one seed")
    return data.open_run(name)


def pick_models(run: Run) -> list[str]:
    """The sidebar's choice of the models shown; none means all."""
    models = available_models(run)
    options = {"default": models, "selection_mode": "multi", "key": "models", "bind": "query-params"}
    chosen = st.sidebar.pills("Models shown", models, format_func=theme.label, **options)
    return [m for m in models if m in chosen] or models


def available_models(run: Run) -> list[str]:
    """The run's models and, where both baselines are there, their ensemble."""
    answers = data.load_answers(run)
    return [m for m in theme.SHOWN_MODELS if f"{m}_correct" in answers]


def pick_model(run: Run, key: str = "model", label: str = "Model", default: str = "fusion") -> str:
    """A choice of one model, bound to the URL."""
    models = available_models(run)
    start = default if default in models else models[-1]
    options = {"default": start, "required": True, "key": key, "bind": "query-params"}
    return st.segmented_control(label, models, format_func=theme.label, **options) or start  # "?model=" is None


def pick_one(label: str, options: list[str], key: str) -> str:
    """A choice bound to the URL; the first option is the default."""
    return st.segmented_control(label, options, default=options[0], required=True, key=key, bind="query-params") or options[0]


def pick_classes(label: str, key: str) -> list[str]:
    """Any number of classes, bound to the URL; none means all."""
    return st.multiselect(label, CLASSES, key=key, bind="query-params", placeholder="all classes")


def surface() -> theme.Surface:
    """Colours of the theme the visitor has switched on."""
    return theme.DARK if st.context.theme.type == "dark" else theme.LIGHT


def show_figure(figure: go.Figure, key: str, caption: str, table: pd.DataFrame | None = None, **options):
    """A chart with its caption; PNG from its toolbar, CSV of `table` from the button. Returns the chart's selection."""
    config = {
        "displaylogo": False,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d"],
        "toImageButtonOptions": {"format": "png", "scale": 2, "filename": key},
    }
    event = st.plotly_chart(figure, key=key, config=config | options.pop("config", {}), alt=caption, **options)
    with st.container(horizontal=True, wrap=False, vertical_alignment="center"):
        st.caption(caption, width="stretch")
        if table is not None:
            offer_csv(table, key)
    return event


def offer_csv(table: pd.DataFrame, key: str) -> None:
    """A button that downloads `table` as {key}.csv."""
    st.download_button(
        "CSV", lambda: table.to_csv(index=False), f"{key}.csv", "text/csv", key=f"{key}_csv", type="tertiary", on_click="ignore"
    )


def image_gallery(rows: pd.DataFrame, model: str, key: str) -> None:
    """Clickable thumbnails of answers; a click, or Enter, writes the image's index to the `image` parameter."""
    if rows.empty:
        st.info("No image fits these choices. Widen them: clear a class, or allow another outcome.")
        return
    columns = 20
    items = [
        {
            "index": int(row["index"]),
            "alt": selection.describe_answer(row, model),
            "caption": f"{CLASSES[row['label']]} → {CLASSES[row[f'{model}_predicted']]} {row[f'{model}_confidence']:.2f}"
            + " ⚑" * bool(row["relabelled"]),
        }
        for _, row in rows.iterrows()
    ]
    gallery = st.components.v2.component("image_gallery", html="<div class='grid'></div>", css=GALLERY_CSS, js=GALLERY_JS)
    gallery(
        key=key,
        data={
            "sprite": thumbnails.make_sprite(tuple(item["index"] for item in items), columns),
            "columns": columns,
            "items": items,
            "chosen": st.session_state.get("image"),
        },
        on_chosen_change=lambda: st.session_state.update(image=int(st.session_state[key].chosen)),
    )


def page_through(answers: pd.DataFrame, chosen: pd.Index, key: str = "page") -> pd.DataFrame:
    """Of the `chosen` answers, the page in the URL, at the chosen size."""
    size = st.session_state.get("per_page", 100)
    pages = max(1, -(-len(chosen) // size))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        size = st.selectbox("Images a page", [50, 100, 200], index=1, key="per_page", bind="query-params", width=130)
        if st.session_state.get(key, 1) > pages:
            st.session_state[key] = pages
        page = st.number_input(f"Page of {pages}", 1, pages, key=key, bind="query-params", width=130)
    return answers.loc[chosen[(page - 1) * size : page * size]]


def image_detail(run: Run, answers: pd.DataFrame) -> None:
    """The image of the `image` parameter, large, with every model's answer, its neighbours and where to go on."""
    with st.container(border=True):
        index = st.number_input(
            "Image", 0, len(answers) - 1, value=None, key="image", bind="query-params", placeholder="click one, or type 0–9999"
        )
        if index is None:
            st.caption("Choose an image to see what every model makes of it.")
            return
        row = answers.iloc[index]
        st.html(
            f'<img src="{thumbnails.image_uri(index)}" alt="{selection.describe_answer(row, run.models[-1])}" '
            'style="width:100%;max-width:256px;image-rendering:pixelated;border-radius:6px">'
        )
        st.markdown(f"True class: **{CLASSES[row['label']]}**")
        if row["relabelled"]:
            st.badge("⚑ label doubted by people", color="orange")
        if votes := data.rank_votes(index):
            st.caption("People say " + ", ".join(f"{name} {share:.0%}" for name, share in votes[:3]))
        logits = {model: data.load_logits(run, model)[index] for model in run.models}
        show_figure(
            figures.top_classes_figure(logits, int(row["label"]), surface()),
            f"top_{index}",
            "The three classes each model finds most likely; the true one is marked ✓.",
        )
        st.page_link("views/attributions.py", label="Why? See its attributions", query_params={"image": str(index)})
        neighbours = data.nearest_images(run, run.models[-1], index)
        st.caption(f"Nearest on {theme.label(run.models[-1])}'s embedding map")
        image_gallery(answers.iloc[neighbours], run.models[-1], "neighbours")


def show_findings(findings: list[Finding]) -> None:
    """Statements, each with its verdict, its test and the way to the page that shows it."""
    for finding in findings:
        mark, _, color = theme.VERDICTS[finding.verdict]
        with st.container(border=True):
            st.badge(f"{mark} {finding.verdict}", color=color)
            st.markdown(finding.text)
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(f"{finding.test}; n = {finding.n:,}", width="stretch")
                st.page_link(f"views/{finding.view}.py", label="See it")


def filter_images(run: Run, answers: pd.DataFrame) -> tuple[str, pd.Index]:
    """The filter of the Errors page, bound to the URL: the model whose answers count, and those answers' labels, in order."""
    model = pick_model(run)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        outcome = st.selectbox("Outcome", selection.available_outcomes(answers), index=1, key="outcome", bind="query-params", width=210)
        true = pick_classes("True class", "true")
        predicted = pick_classes("Predicted class", "predicted")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        sort = st.selectbox("Order", selection.SORTS, key="sort", bind="query-params", width=210)
        agreement = st.selectbox("Agreement", selection.AGREEMENTS, key="agreement", bind="query-params", width=170)
        confidence = st.slider("Confidence", 0.0, 1.0, (0.0, 1.0), 0.01, key="confidence", bind="query-params", width=210)
        people, doubted = (0.0, 1.0), False
        if answers["people"].notna().any():
            text = "Share of people who chose the label"
            people = st.slider("Human agreement", 0.0, 1.0, (0.0, 1.0), 0.01, key="people", bind="query-params", width=210, help=text)
        if answers["relabelled"].any():
            text = "Fewer than three of five annotators confirm the label (Northcutt et al. 2021); marked ⚑"
            doubted = st.toggle("Doubted labels only", key="doubted", bind="query-params", help=text)
    return model, selection.select_images(answers, model, true, predicted, outcome, confidence, agreement, sort, people, doubted)


def require_weights(run: Run) -> None:
    """Stop the page with a word on what to do where the run does not ship its models' weights."""
    if not run.has_weights:
        shipping = [f"`{name}`" for name in data.check_runs()[0] if data.open_run(name).has_weights]
        st.info(
            "This page needs the models' weights, and this run does not ship them. "
            + (f"Choose one that does in the sidebar ({', '.join(shipping)}), or write" if shipping else "Write")
            + f" them from the run's checkpoints: `{rebuild_command(run.path)}`."
        )
        st.stop()


def show_branches(run: Run, answers: pd.DataFrame, index: int | None) -> None:
    """What each branch of the fusion carries over the whole test set, and without it for one image; the command where not computed."""
    try:
        branches = data.load_branches(run)
    except UserError as error:
        st.info(str(error))
        return
    by = pick_one("Over the whole test set, by", ["class", "outcome"], "carried")
    table = selection.share_branches(answers, branches["contribution"], by)
    show_figure(
        figures.branch_shares_figure(table, "Which branch carries the fusion's answers?"),
        "branch_shares",
        "Mean logits a branch adds for the predicted class, from the mean features on. Rescued, broken: against both baselines.",
        table,
    )
    kept = {branch: float((logits.argmax(axis=1) == answers["label"]).mean()) for branch, logits in branches["ablated"].items()}
    text = ", ".join(f"without {theme.label(branch)} {share:.2%}" for branch, share in kept.items())
    here = (
        ""
        if index is None
        else "; this image: " + ", ".join(f"without {theme.label(b)} {CLASSES[v[index].argmax()]}" for b, v in branches["ablated"].items())
    )
    st.caption(f"Accuracy with a branch's features replaced by their mean: {text}{here}.")
