"""The current filter as removable chips, with Reset and Copy link: a small custom component."""

from collections.abc import Callable
from functools import reduce
from pathlib import Path

import streamlit as st

from dashboard.filters import Filter

ASSETS = {kind: (Path(__file__).parent / f"chips.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}


def filter_chips(chosen: Filter, parts: list[tuple[str, str, str]], change: Callable[[Filter, Filter | None], None]) -> None:
    """Chips of `parts` (Filter.name_parts); `change` gets the filter without the chips clicked and the one before, or the
    one Reset leaves."""
    chips = st.components.v2.component("filter_chips", html="<div class='chips'></div>", **ASSETS)
    chips(
        key="chips",
        data={"parts": parts},
        on_removed_change=lambda: change(reduce(lambda kept, part: kept.without(*part), st.session_state["chips"].removed, chosen), chosen),
        on_reset_change=lambda: change(Filter(model=chosen.model), None),
    )
