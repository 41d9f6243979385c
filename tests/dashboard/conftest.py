"""One made-up run for all dashboard tests, and the visit of a page through Home.py."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import results
from core.config import ROOT
from tests.fake_run import make_run, ship_weights


@pytest.fixture(scope="session")
def made_results(tmp_path_factory) -> Path:
    """A results folder with two seeds of one recipe and made-up test images."""
    folder = tmp_path_factory.mktemp("dashboard") / "results"
    for seed in (0, 1):
        make_run(folder, f"imagenet-96-seed{seed}", seed=seed)
    return folder


@pytest.fixture
def fake_results(made_results, monkeypatch) -> Path:
    """The made-up results, as the dashboard sees them."""
    monkeypatch.setattr(results, "RESULTS", made_results)
    return made_results


@pytest.fixture(scope="session")
def tiny_results(made_results, tmp_path_factory) -> Path:
    """The made-up runs, seed 1 shipping weights (random ones, for 32 px), seed 0 none."""
    folder = tmp_path_factory.mktemp("weights") / "results"
    shutil.copytree(made_results, folder)
    ship_weights(folder / "imagenet-96-seed1")
    return folder


def open_page(view: str = "overview", **parameters: str | list[str]) -> AppTest:
    """Open a page through Home.py with query parameters; fail on any exception it shows."""
    app = AppTest.from_file(str(ROOT / "dashboard" / "Home.py"), default_timeout=120)
    for key, value in parameters.items():
        app.query_params[key] = value
    app.run()
    if view != "overview":
        app.switch_page(f"views/{view}.py").run()
    assert not app.exception, app.exception[0].value
    return app


def component(app: AppTest, name: str) -> dict:
    """What a page sends to the browser's side of its first custom component `name`."""
    return next(json.loads(one.proto.json) for one in app.get("bidi_component") if one.proto.component_name == name)


@pytest.fixture
def visit(fake_results) -> Callable[..., AppTest]:
    """open_page on the made-up results."""
    return open_page


@pytest.fixture
def visit_tiny(tiny_results, monkeypatch) -> Callable[..., AppTest]:
    """open_page on made-up results that ship weights."""
    monkeypatch.setattr(results, "RESULTS", tiny_results)
    return open_page
