"""What lies in results/ of the repository, whatever it is: every page shows it, and its files agree with one another."""

import numpy as np
import pytest

from core import results
from core.config import ROOT
from core.robustness import pick_subset
from tests.dashboard.conftest import VIEWS, open_page

SHIPPED = ROOT / "results"


@pytest.mark.parametrize("view", VIEWS)
def test_every_page_shows_the_run_that_it_opens_on(view, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", SHIPPED)
    app = open_page(view)
    assert app.title and not app.error and not app.sidebar.warning


@pytest.mark.parametrize("name", results.find_runs(SHIPPED))
def test_the_clean_row_of_the_corrupted_images_is_what_was_predicted(name):
    run = results.load_run(SHIPPED / name)
    _, labels, logits = results.load_logits(run)
    for model, values in logits.items():
        if (run.path / model / "robustness.csv").exists():
            clean = results.load_robustness(run, model)[0]
            subset = pick_subset(labels, len(clean))
            assert np.array_equal(clean, values[subset].argmax(axis=1) == labels[subset]), model
