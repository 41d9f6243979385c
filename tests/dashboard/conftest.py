"""One made-up run for all dashboard tests, and the visit of a page through Home.py."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from core import results
from core.config import ROOT
from tests.fake_run import make_run, ship_weights

VIEWS = sorted(path.stem for path in (ROOT / "dashboard" / "views").glob("*.py"))


@pytest.fixture(scope="session", autouse=True)
def installed_components() -> Iterator[None]:
    """Every AppTest looks through all installed packages for components, as a server does once: eight tenths of a visit's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield


@pytest.fixture(scope="session")
def made_results(tmp_path_factory) -> Path:
    """A results folder with two seeds of one recipe and made-up test images."""
    folder = tmp_path_factory.mktemp("dashboard") / "results"
    for seed in (0, 1):
        make_run(folder, f"imagenet-96-seed{seed}", seed=seed)
    return folder


@pytest.fixture(scope="session")
def small_results(tmp_path_factory) -> Path:
    """The same with 200 test images a run, of which every page is made in no time."""
    folder = tmp_path_factory.mktemp("small") / "results"
    for seed in (0, 1):
        make_run(folder, f"imagenet-96-seed{seed}", n_test=200, seed=seed)
    return folder


@pytest.fixture
def own_results(small_results, tmp_path, monkeypatch) -> Path:
    """A copy of the small results to spoil, as the dashboard sees it."""
    folder = shutil.copytree(small_results, tmp_path / "results")
    monkeypatch.setattr(results, "RESULTS", folder)
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
    if view != "overview":
        app.switch_page(f"views/{view}.py")  # before the first run, as a link into the page
    app.run()
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
