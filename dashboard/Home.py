"""The dashboard's entry: page settings, navigation and the sidebar every page shares.

streamlit run dashboard/Home.py

The server imports this file once, for `app`; each visit runs it as a script.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import streamlit as st
from starlette.responses import FileResponse
from starlette.routing import Route
from streamlit.runtime.scriptrunner import StopException

from dashboard import process

PAGES = {
    "Findings": {
        "overview": "Overview",
        "evidence": "Evidence",
        "calibration": "Calibration",
        "robustness": "Robustness",
        "runs": "All runs",
        "report": "Report",
    },
    "In class": {
        "present": "Present",
        "quiz": "Quiz",
        "glossary": "Glossary",
    },
    "Explore": {
        "training": "Training curves",
        "confusion": "Confusion",
        "errors": "Errors",
        "rescued": "Fixed and broken",
        "attributions": "Attributions",
        "embedding": "Embedding",
        "try_image": "Try an image",
    },
}
START = "overview"


@asynccontextmanager
async def read_ahead(_: st.App) -> AsyncIterator[None]:
    """While the first visitor's browser loads, read what the first page shows."""

    def read() -> None:
        from dashboard import data

        data.read_ahead()

    reading = asyncio.create_task(asyncio.to_thread(read))
    yield
    await reading


def main() -> None:
    from core.config import UserError
    from core.results import MissingFile
    from dashboard import address, components

    titles = {name: title for group in PAGES.values() for name, title in group.items()}
    pages = [st.Page(f"views/{name}.py", title=title, default=name == START, url_path=name) for name, title in titles.items()]
    page = st.navigation(pages, position="hidden")
    name = page.url_path or START
    address.start(name)
    try:
        run = components.pick_run()
        st.set_page_config(page_title=f"{titles[name]} · {run.name if run else 'no results'}", page_icon="🔬", layout="wide")
        if run is None:
            st.title("No results yet")
            st.markdown(
                "Train the three models and come back: `python scripts/train.py --recipe cpu-96` on a CPU, "
                "`--recipe full-224` on a GPU. Every run appears here when it is whole."
            )
        else:
            st.session_state["current"] = run, components.pick_models(run)
            show_links(name)
            components.follow_browser(name)
            components.color_links()
            address.offer_return(titles)
            if name != "glossary":  # which explains them itself
                components.explain_words()
            page.run()
            address.finish()
    except UserError as error:
        address.stop()
        (st.info if isinstance(error, MissingFile) else st.error)(str(error))  # what this run never had is no fault
    except StopException:  # the page has said all it can; a run that gives way to the next one leaves the address to that
        address.finish()
        raise
    finally:
        process.tidy()


def show_links(here: str) -> None:
    """The pages, in groups; a link takes along which run and which models are shown, also into a new tab. That `here` resets it."""
    from dashboard import address

    for group, titles in PAGES.items():
        st.sidebar.caption(group)
        for name, title in titles.items():
            anew = {address.ANEW: True} if name == here else {}
            st.sidebar.page_link(f"views/{name}.py", label=title, query_params=address.parameters(back=False, **anew))


if __name__ == "__main__":
    main()
else:
    process.tune()
    plotly = Path(find_spec("plotly").origin).parent / "package_data" / "plotly.min.js"  # the slides draw their own charts
    app = st.App(__file__, lifespan=read_ahead, routes=[Route("/plotly.min.js", lambda _: FileResponse(plotly))])
