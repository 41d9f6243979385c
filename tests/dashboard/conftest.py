"""One made-up run for all dashboard tests, and the visit of a page through Home.py."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import results
from core.config import ROOT
from tests.fake_run import make_run


@pytest.fixture(scope="session")
def made_results(tmp_path_factory) -> Path:
    """A results folder with two seeds of one recipe and made-up test images."""
    folder = tmp_path_factory.mktemp("dashboard") / "results"
    for seed in (0, 1):
        make_run(folder, f"imagenet-96-seed{seed}", seed=seed)
    return folder


@pytest.fixture
def fake_results(made_results, monkeypatch) -> Iterator[Path]:
    """The made-up results, as the dashboard sees them."""
    monkeypatch.setattr(results, "RESULTS", made_results)
    yield made_results


@pytest.fixture
def visit(fake_results) -> Callable[..., AppTest]:
    """Open a page through Home.py with query parameters; fail on any exception it shows."""

    def open_page(view: str = "overview", **parameters: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(ROOT / "dashboard" / "Home.py"), default_timeout=60)
        for key, value in parameters.items():
            app.query_params[key] = value
        app.run()
        if view != "overview":
            app.switch_page(f"views/{view}.py").run()
        assert not app.exception, app.exception[0].value
        return app

    return open_page
