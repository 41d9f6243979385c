"""The filter of the Errors page: menus with counts, more conditions behind a button, and the chips of what is chosen.

What is chosen is read before the menus are drawn, since each menu counts what the other choices leave.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core.config import CLASSES, UserError
from core.results import MissingFile, Run
from core.slices import BINS
from dashboard import address, data, filters, selection, theme, traits
from dashboard.components.chips import filter_chips
from dashboard.components.choices import available_models
from dashboard.components.tags import tag_store, tagged_images
from dashboard.filters import Filter

FOLDED = "<style>@media (max-width: 640px) { :root:not(.filters-open) .st-key-filters { display: none } }</style>"  # the chips open it
LISTS = ("true", "predicted", "tags")  # what a menu of several holds as a list


def change_filter(chosen: Filter, before: Filter | None = None) -> None:
    """Make the menus say `chosen`; given the one `before`, only those that differ: the others may have been changed meanwhile.

    Only before they are drawn, as in a callback.
    """
    wanted, had = spell_menus(chosen), spell_menus(before) if before else {}
    for key in (key for key, value in wanted.items() if key not in had or had[key] != value):
        address.choose(key, wanted[key])


def spell_menus(chosen: Filter) -> dict[str, Any]:
    """A filter as the values of the menus."""
    says = dict(one.split(":") for one in chosen.says)
    own = {field.name: getattr(chosen, field.name) for field in fields(Filter)}
    return {
        **{name: list(value) if name in LISTS else value for name, value in own.items()},
        **{f"says_{model}": says.get(model, "anything") for model in theme.SHOWN_MODELS},
    }


def current_filter(run: Run, predictions: pd.DataFrame) -> Filter:
    """What the address or the menus say; what rests on a trait that is not known of the model is left out, and said."""
    models = available_models(run)
    default = filters.read_query({}, models, BINS)
    outcomes, epochs = selection.available_outcomes(predictions), run.recipe.epochs
    unknown = set()

    def knows(*names: str) -> bool:
        try:
            for name in names:
                traits.load_trait(run, st.session_state["model"], name)  # the first field, so it is chosen by now
        except UserError as error:
            unknown.add(str(error))
            return False
        return True

    def offers(one: str, offered: Collection[str], known: Collection[str]) -> bool:
        if one in known and one not in offered:
            unknown.add(f"“{one}” cannot be told of {theme.label(st.session_state['model'])} in this run, and is left out.")
        return one in offered

    def offered_seeds() -> Collection[str]:
        return filters.SEEDS if traits.count_seeds(run, st.session_state["model"]) > 1 else [default.seeds]

    def can_sort(one: str) -> bool:
        offered = offers(one, known_sorts(run, st.session_state["model"]), {*selection.SORTS, *filters.TRAIT_SORTS})
        return offered and (one not in filters.TRAIT_SORTS or knows(filters.TRAIT_SORTS[one][0]))

    def can_forget(times: int) -> bool:
        return knows("forgotten") and times <= traits.load_trait(run, st.session_state["model"], "forgotten").max()

    allowed = {
        "model": lambda one: one in models,
        "outcome": lambda one: offers(one, outcomes, selection.OUTCOMES),
        "seeds": lambda one: offers(one, offered_seeds(), filters.SEEDS),
        "sort": can_sort,
        "people": lambda pair: pair == default.people or predictions["people"].notna().any(),
        "learned": lambda pair: not pair or (len(pair) == 2 and 1 <= pair[0] <= pair[1] <= epochs + 1 and knows("learned")),
        "forgotten": lambda times: not times or can_forget(times),
        "slice": lambda parts: knows(*(part.rsplit(":", 1)[0] for part in parts)),
    }

    def keep(name: str) -> None:
        start = getattr(default, name)
        address.keep(
            name,
            list(start) if name in LISTS else start,
            lambda texts: (lambda value: list(value) if name in LISTS else value)(
                getattr(filters.read_query({name: texts}, models, BINS), name)
            ),
            lambda value: [filters.spell(one) for one in (value if isinstance(value, list | tuple) else (value,))],
            allowed.get(name, lambda _: True),
        )

    address.follow("learned", (1, epochs + 1))
    for name in (field.name for field in fields(Filter) if field.name != "says"):
        keep(name)
    if st.session_state["learned"] == (1, epochs + 1):  # all of them
        st.session_state["learned"] = ()
        keep("learned")
    for line in sorted(unknown):
        st.info(line)
    options = ("anything", *filters.STATES, *CLASSES)
    said = {m: address.keep(f"says_{m}", "anything", lambda t: t[-1], lambda v: [v], lambda v: v in options) for m in models}
    found = {field.name: st.session_state[field.name] for field in fields(Filter) if field.name != "says"}
    return Filter(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()},
        says=tuple(f"{model}:{what}" for model, what in said.items() if what != "anything"),
    )


def filter_images(run: Run, predictions: pd.DataFrame) -> tuple[Filter, dict[str, np.ndarray]]:
    """The filter's menus and chips. Returns what is chosen and its conditions (Filter.conditions)."""
    models = available_models(run)
    chosen = current_filter(run, predictions)
    tagged = tagged_images()
    conditions = chosen.conditions(predictions, traits.find_traits(run, chosen.model), {i: one["tags"] for i, one in tagged.items()})
    labels, predicted = predictions["label"].to_numpy(), predictions[f"{chosen.model}_predicted"].to_numpy()

    def rest(*names: str) -> np.ndarray:
        return filters.all_but(conditions, len(predictions), *names)

    st.html(FOLDED)
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        st.segmented_control("Model", models, format_func=theme.label, required=True, key="model", wrap=True)
        outcomes = selection.available_outcomes(predictions)
        fits = {name: int((rest("outcome") & selection.OUTCOMES[name](predictions, chosen.model)).sum()) for name in outcomes}
        counted_menu(st.selectbox, "Outcome", outcomes, fits, key="outcome", width=230)
        by_true, by_predicted = (filters.count_classes(classes, rest(key)) for key, classes in (("true", labels), ("predicted", predicted)))
        counted_menu(st.multiselect, "True class", CLASSES, by_true, key="true", placeholder="all classes", width=230)
        counted_menu(st.multiselect, "Predicted class", CLASSES, by_predicted, key="predicted", placeholder="all classes", width=230)
        with st.popover("More filters"):
            choose_more(run, predictions, chosen, rest, tagged)
        st.selectbox("Order", known_sorts(run, chosen.model), key="sort", width=230)
    with st.container(horizontal=True):
        filter_chips(chosen, name_parts(run, chosen), change_filter)
        tag_store()
    return chosen, conditions


def counted_menu(widget: Callable, label: str, options: Sequence[str], counts: Mapping[str, int], *, key: str, **settings: Any) -> None:
    """A menu that says how many images each choice would show."""

    def name(option: str) -> str:
        return f"{option} {counts.get(option, 0):,}"

    address.remember_labels(key, options, name)
    widget(label, options, format_func=name, key=key, **settings)


def choose_images(run: Run, predictions: pd.DataFrame) -> tuple[Filter, pd.Index]:
    """The filter's menus and chips; what is chosen, and the labels of the rows of `predictions` that fit, in order."""
    chosen, conditions = filter_images(run, predictions)
    return chosen, chosen.arrange(predictions, filters.all_but(conditions, len(predictions)), traits.find_traits(run, chosen.model))


def choose_more(
    run: Run,
    predictions: pd.DataFrame,
    chosen: Filter,
    rest: Callable[..., np.ndarray],
    tagged: dict[int, dict],
) -> None:
    """Conditions that are asked for less often."""
    for column, model in zip(cycle(st.columns(2)), available_models(run), strict=False):
        kept, correct = rest(f"says {model}"), predictions[f"{model}_correct"].to_numpy()
        counts = {"anything": int(kept.sum()), "correct": int((kept & correct).sum()), "wrong": int((kept & ~correct).sum())}
        counts |= filters.count_classes(predictions[f"{model}_predicted"].to_numpy(), kept)
        options = ["anything", *filters.STATES, *CLASSES]
        counted_menu(column.selectbox, f"{theme.label(model)} says", options, counts, key=f"says_{model}")
    st.selectbox("Agreement", selection.AGREEMENTS, key="agreement")
    st.slider("Confidence", 0.0, 1.0, step=0.01, key="confidence")
    if predictions["people"].notna().any():
        text = "Share of people who chose the label"
        st.slider("Human agreement", 0.0, 1.0, step=0.01, key="people", help=text)
    if predictions["relabelled"].any():
        text = "Fewer than three of five annotators confirm the label (Northcutt et al. 2021); marked ⚑"
        st.toggle("Doubted labels only", key="doubted", help=text)
    if predictions["duplicated"].any():
        text = "An image of the training batches is nearly the same, so a model may know it; marked ≈"
        kept, has = rest("duplicates"), predictions["duplicated"].to_numpy()
        counts = dict(zip(filters.DUPLICATES, (int((kept & fits).sum()) for fits in (True, has, ~has)), strict=True))
        counted_menu(st.selectbox, "Near-duplicates", filters.DUPLICATES, counts, key="duplicates", help=text)
    if (seeds := traits.count_seeds(run, chosen.model)) > 1:
        share, kept = traits.load_trait(run, chosen.model, "seeds"), rest("seeds")
        counts = {name: int((kept & filters.fits_seeds(name, share)).sum()) for name in filters.SEEDS}
        counted_menu(st.selectbox, f"{theme.label(chosen.model)} over {seeds} seeds", filters.SEEDS, counts, key="seeds")
    try:
        forgotten = traits.load_trait(run, chosen.model, "forgotten")
        epochs = run.recipe.epochs
        whose = theme.label(traits.pick_trained(run, chosen.model))
        text = f"First epoch after which {whose} was correct; {epochs + 1}: never (Toneva et al. 2019)"
        st.session_state["learned"] = chosen.learned or (1, epochs + 1)
        st.slider("Learned in epoch", 1, epochs + 1, key="learned", help=text)
        text = "Correct after one epoch, wrong after the next"
        st.number_input("Forgotten at least so often", 0, int(forgotten.max()), key="forgotten", help=text)
    except MissingFile:
        st.caption("When an image was learned is not known: this run kept no correctness of each epoch.")
    except UserError as error:
        st.caption(str(error))
    if names := sorted({*chosen.tags, *(tag for one in tagged.values() for tag in one["tags"])}):
        st.multiselect("Your tags", names, key="tags")


def name_parts(run: Run, chosen: Filter) -> list[tuple[str, str, str]]:
    """Filter.name_parts in a run's words."""
    return chosen.name_parts(lambda text: traits.name_slice(run, text), run.recipe.epochs)


def name_selection(run: Run, chosen: Filter) -> str:
    """All that is filtered, in words."""
    whose = [] if chosen.outcome == "model wrong" else [theme.label(chosen.model)]  # that outcome's words name it
    return ", ".join([*whose, *(text for _, _, text in name_parts(run, chosen))])


def known_sorts(run: Run, model: str) -> list[str]:
    """The orders a run can tell of a model."""
    votes = data.load_predictions(run)["people"].notna().any()
    known = [sort for sort, (column, _) in selection.SORTS.items() if column != "people" or votes]
    if traits.count_seeds(run, model) > 1:
        known.append("wrong in most seeds first")
    if all((run.path / model / "epoch_correct.csv").exists() for model in run.models):
        known += ["learned last first", "most often forgotten first"]
    return known
