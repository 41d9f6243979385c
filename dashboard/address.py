"""The address bar: what a visitor chose stands in it, so that any view is a link and Back undoes a choice.

Streamlit's own bind="query-params" writes the labels of a choice (?model=ResNet18), drops from a link what the page before had a widget
for, and adds an entry to the browser's history for every parameter. Here a choice is spelt as in the results folder, addresses
with labels are still understood, and a run of a page changes the address once or not at all.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

Query = dict[str, list[str]]
ON_EVERY_PAGE = ("run", "models")  # what a link to another page takes along
FORMER = {"true": "true_class", "predicted": "predicted_class"}  # keys that addresses of earlier versions have
ANEW = "anew"  # in a link to the page that is open, which is left as it was when first opened; never in the browser's address
NONE = "none"  # of several things, where some are chosen by default
LIGHTBOX = "image"  # of a page whose images open large: the one that is open
IN_FLIGHT = 30.0  # seconds in which a browser may still send the address that was just replaced


@dataclass
class Memory:
    """Of one visitor: what the address was last, and what of it belongs to which widget."""

    page: str = ""
    query: Query = field(default_factory=dict)
    replaced: dict[str, float] = field(default_factory=dict)  # an address -> when another took its place
    known: set[str] = field(default_factory=lambda: {ANEW})  # keys that had a widget once
    entries: Query = field(default_factory=dict)  # what this page's widgets say; a default is left out
    followed_there: set[str] = field(default_factory=set)  # keys that a component's script writes, in the browser
    drawing: bool = False  # the page is not yet whole
    gave_way: bool = False  # the last run followed a link, and was left for a click before it was whole
    bound: set[str] = field(default_factory=set)  # keys that have read the address since it counts, or were clicked since
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)  # of each menu: every label it had -> the option
    chosen: dict[str, tuple[Any, Any, str]] = field(default_factory=dict)  # what choose() set: old, new, and the address the browser had
    wholes: dict[str, Any] = field(default_factory=dict)  # what follow() was told last
    followed: bool = True  # the visitor came by a link or by Back: the address counts, not what widgets said


def memory() -> Memory:
    return st.session_state.setdefault("address_memory", Memory())


def read_address() -> Query:
    return {key: st.query_params.get_all(key) for key in sorted(st.query_params)}


def theirs(query: Query) -> Query:
    """The part of the address that the server writes."""
    return {key: texts for key, texts in query.items() if key not in memory().followed_there}


def start(page: str) -> None:
    """To call before any widget: does the address count in this run, or what the widgets say?

    A run that gives way to the next one, for a click while it draws, leaves to that what it did not come to.
    """
    now, kept, query = time.monotonic(), memory(), read_address()
    anew = query.pop(ANEW, None) is not None
    if theirs(query) == theirs(kept.query):  # the browser has the last one: what it sends from now on is the visitor's
        kept.replaced.clear()
    moved = anew or page != kept.page or getattr(get_script_run_ctx(suppress_warning=True), "is_history_navigation", False)
    late = now - kept.replaced.get(_spell(query), -IN_FLIGHT) < IN_FLIGHT
    followed = moved or (theirs(query) != theirs(kept.query) and not late)
    kept.gave_way = not followed and kept.drawing and kept.followed
    kept.bound = set(kept.chosen) | kept.bound if kept.gave_way else set()
    kept.followed = followed or kept.gave_way
    if anew:
        kept.replaced[_spell(kept.query)] = now  # which the browser has until it hears
    if page != kept.page:
        kept.followed_there.clear()
        kept.chosen.clear()
    kept.page, kept.query, kept.entries, kept.drawing = page, query, {}, True


def finish() -> None:
    """To call when the page is whole."""
    memory().drawing = False
    write()


def stop() -> None:
    """To call where the page ends before it is whole: its address stays, and what its widgets say counts from now on."""
    memory().followed = False


def choose(key: str, value: Any) -> None:
    """Set a widget before it is drawn, in a callback or in the page: a click on one thing that changes another.

    Until the browser has heard of it, each of its messages has the old value and the old address: see latest().
    """
    kept = memory()
    if (old := st.session_state.get(key)) != value:
        kept.chosen[key] = old, value, _spell(read_address())
        st.session_state[key] = value
        if kept.gave_way:
            kept.bound.add(key)


def follow(key: str, whole: Any) -> None:
    """To call before the widget `key`: what was all of the run before, or its end, is that of this run still."""
    wholes = memory().wholes
    if key in st.session_state and st.session_state[key] == wholes.get(key, whole) != whole:
        choose(key, whole)
    wholes[key] = whole


def latest(key: str) -> Any:
    """What a widget says, or what choose() set, where the browser has not heard of that."""
    said = st.session_state[key]
    if key not in memory().chosen:
        return said
    old, new, before = memory().chosen[key]
    return new if said == old and before == _spell(read_address()) else said


def _spell(query: Query) -> str:
    """The part of the address that the server writes, as text."""
    return urlencode(theirs(query), doseq=True)


def write() -> None:
    """To call at the end of a fragment: bring the address up to date, in one step. Within a page that is being drawn, the page does."""
    kept, query = memory(), read_address()
    if kept.drawing:
        return
    known = kept.known | {FORMER[key] for key in kept.known & FORMER.keys()}
    foreign = {key: texts for key, texts in theirs(query).items() if key not in known}
    browsers = {key: [str(value)] for key in kept.followed_there if (value := st.session_state.get(key)) is not None}
    if kept.followed:
        browsers = {key: query[key] for key in kept.followed_there & query.keys()} | browsers
    wanted = dict(sorted((foreign | kept.entries | browsers).items()))
    if theirs(wanted) != theirs(query):
        now = time.monotonic()
        kept.replaced = {text: when for text, when in kept.replaced.items() if now - when < IN_FLIGHT}
        kept.replaced[_spell(query)] = now
        st.query_params.from_dict(wanted)
    else:  # nothing will tell that the browser has heard
        kept.chosen = {key: chosen for key, chosen in kept.chosen.items() if chosen[2] != _spell(query)}
    kept.query, kept.followed = wanted, False


def remember_labels(key: str, options: Sequence, names: Callable) -> None:
    """To call where a menu is drawn whose labels, as `names` gives them, may be others in the next run.

    A choice comes as the label that the browser shows, and Streamlit hands on one that the menu no longer has as it is.
    """
    memory().labels.setdefault(key, {}).update((names(option), option) for option in options)


def _understand(key: str) -> None:
    """Turn labels that the menu `key` had in an earlier run into the options they stood for."""
    labels, said = memory().labels.get(key, {}), st.session_state.get(key)
    if isinstance(said, list):
        meant = [labels.get(one, one) for one in said]
    else:
        meant = labels.get(said, said) if isinstance(said, str) else said
    if meant != said:
        st.session_state[key] = meant


def _bind(key: str, default: Any, read: Callable[[list[str]], Any], allowed: Callable[[Any], bool]) -> None:
    """Give the widget `key` its value: the address's where that counts and can be read, its own where that is allowed, or `default`.

    Another page may have left something of another kind under this key: a part of a page can be drawn after the next page began.
    """
    kept, state = memory(), st.session_state
    kept.known.add(key)
    kept.followed_there.discard(key)
    followed = kept.followed and key not in kept.bound
    kept.bound.add(key)
    if key in kept.chosen and (followed or kept.chosen[key][2] != _spell(read_address())):
        del kept.chosen[key]
    if followed or key not in state:
        texts = st.query_params.get_all(key) or st.query_params.get_all(FORMER.get(key, key))
        try:
            state[key] = read(texts) if texts else default
        except ValueError:
            state[key] = default
    _understand(key)
    if (now := latest(key)) != state[key]:
        state[key] = now
    if not ((default is None or isinstance(state[key], type(default))) and allowed(state[key])):
        state[key] = default


def _note(key: str, value: Any, default: Any, spell: Callable[[Any], list[str]]) -> Any:
    """Keep what the widget said for write()."""
    linked = memory().followed and value is not None and key in st.query_params  # a link that names a default stays as it is
    texts = spell(value) if linked or value != default else []
    memory().entries.pop(key, None)
    if texts:
        memory().entries[key] = texts
    return value


def pick(widget: Callable, label: str, options: Sequence, *, key: str, default: Any = None, names: Callable = str, **settings: Any) -> Any:
    """One of `options`, shown by `names`, from a selectbox or a segmented control. Without `default`, None until chosen."""
    options = list(options)
    by_text = {names(option): option for option in options} | {str(option): option for option in options}

    def read(texts: list[str]) -> Any:
        text = texts[-1] if texts[-1] in by_text else texts[-1].replace("right", "correct")  # as addresses of earlier versions have it
        if text not in by_text:
            raise ValueError(text)
        return by_text[text]

    _bind(key, default, read, lambda value: value in options or value is default)
    remember_labels(key, options, names)
    if widget is st.selectbox and default is None:
        settings["index"] = None
    if widget is st.segmented_control:
        settings["required"] = True
    value = widget(label, options, key=key, format_func=names, **settings)
    return _note(key, default if value is None else value, default, lambda one: [str(one)])


def pick_several(
    widget: Callable, label: str, options: Sequence, *, key: str, default: Sequence = (), names: Callable = str, **settings: Any
) -> list:
    """Any of `options`, shown by `names`, from a multiselect or pills. Where some are the default, the URL says `none` for none."""
    options = list(options)
    by_text = {names(option): option for option in options} | {str(option): option for option in options}

    def read(texts: list[str]) -> list:
        if default and texts == [NONE]:
            return []
        if not (known := [by_text[text] for text in texts if text in by_text]):
            raise ValueError(texts)
        return known

    _bind(key, list(default), read, lambda values: set(values) <= set(options))
    remember_labels(key, options, names)
    value = widget(label, options, key=key, format_func=names, **settings)
    return _note(key, list(value), list(default), lambda chosen: [str(one) for one in chosen] or [NONE] * bool(default))


def pick_number(
    label: str, low: int, high: int, *, key: str, default: int | None = None, widget: Callable = st.number_input, **settings: Any
) -> int | None:
    """A whole number from `low` to `high`, None until chosen where there is no default."""

    def read(texts: list[str]) -> int:
        return int(texts[-1])

    _bind(key, default, read, lambda value: value is default or low <= value <= high)
    value = widget(label, low, high, key=key, value=None if default is None else "min", **settings)
    return _note(key, value, default, lambda one: [str(one)])


def leave_to_browser(key: str) -> None:
    """To call after the widget `key`: a component's script keeps this part of the address, step by step and without a history.

    Of that Streamlit does not hear: it goes on telling what was there when the page was opened. So only a link's counts.
    """
    kept = memory()
    kept.followed_there.add(key)
    kept.known.discard(key)
    kept.entries.pop(key, None)


def slide(label: str, low: float, high: float, default: Any, step: float, *, key: str, **settings: Any) -> Any:
    """A value, or where `default` is a pair a range, from `low` to `high`."""

    def read(texts: list[str]) -> Any:
        values = tuple(float(text) for text in texts)
        if isinstance(default, tuple) and len(values) != 2:
            raise ValueError(texts)
        return values if isinstance(default, tuple) else values[-1]

    def allowed(value: Any) -> bool:
        first, last = value if isinstance(value, tuple) else (value, value)
        return low <= first <= last <= high

    _bind(key, default, read, allowed)
    value = st.slider(label, low, high, step=step, key=key, **settings)
    return _note(key, value, default, lambda chosen: [f"{one:g}" for one in (chosen if isinstance(chosen, tuple) else (chosen,))])


def switch(label: str, *, key: str, **settings: Any) -> bool:
    """On or off; off by default."""
    _bind(key, False, lambda texts: texts[-1].lower() == "true", lambda value: isinstance(value, bool))
    return _note(key, st.toggle(label, key=key, **settings), False, lambda _: ["true"])


def keep(
    key: str,
    default: Any,
    read: Callable[[list[str]], Any],
    spell: Callable[[Any], list[str]],
    allowed: Callable[[Any], bool] = lambda _: True,
) -> Any:
    """A value that has no widget, or one drawn later under the same key; to change it, write st.session_state[key].

    `read` raises ValueError where the address says nothing it understands.
    """
    _bind(key, default, read, allowed)
    return _note(key, st.session_state[key], default, spell)


def keep_text(key: str) -> str | None:
    """`keep` of a text."""
    return keep(key, None, lambda texts: texts[-1], lambda text: [text])


# --- from page to page -----------------------------------------------------------------------------------------------


def parameters(back: bool = True, along: Collection[str] = (), **chosen: Any) -> Query:
    """The query of a link to another page: `chosen`, the run and models shown and, if `back`, the way back to what is seen now.

    What is seen now goes `along` under these keys, where the other page has the same choices. The way back leads to an open image only
    where the link is about it: the visitor may close it without the link being drawn anew.
    """
    kept = memory()
    drawn = {"from", LIGHTBOX} | kept.bound | {FORMER[key] for key in kept.bound & FORMER.keys()}  # these say themselves what is chosen
    here = {key: texts for key, texts in kept.query.items() if key not in drawn} | kept.entries
    if LIGHTBOX in chosen:
        here[LIGHTBOX] = [str(chosen[LIGHTBOX])]
    query = {key: [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)] for key, value in chosen.items()}
    always = {key: kept.entries[key] for key in ON_EVERY_PAGE if key in kept.entries}
    always |= {key: texts for key, texts in here.items() if key in along}
    return always | query | ({"from": [f"{kept.page}?{urlencode(here, doseq=True)}"]} if back else {})


def link(view: str, label: str, back: bool = True, along: Collection[str] = (), **chosen: Any) -> None:
    """A link to another page: see `parameters`."""
    st.page_link(f"views/{view}.py", label=label, query_params=parameters(back, along, **chosen))


def offer_return(titles: dict[str, str]) -> None:
    """Where a link led here, the way back to what was seen. `titles`: of the pages, by name."""
    page, _, query = st.query_params.get("from", "").partition("?")
    if page in titles and page != memory().page:
        st.page_link(f"views/{page}.py", label=f"← Back to {titles[page]}", query_params=parse_qs(query))
