"""A part of a page that stands or falls alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from core.config import UserError
from core.results import MissingFile


@contextmanager
def section() -> Iterator[None]:
    """Around what needs a file that a run may lack: where that is missing or damaged, its line stands here and the page goes on."""
    try:
        yield
    except MissingFile as error:
        st.info(str(error))
    except UserError as error:
        st.warning(str(error))
