"""A dashboard without PyTorch (dashboard/requirements.txt alone): every view opens, and what was explained before is shown."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from core import results
from core.config import ROOT
from tests.dashboard.conftest import VIEWS

VISIT = """
import json, sys
from importlib.machinery import PathFinder
find, absent = PathFinder.find_spec, ("torch", "torchvision", "captum", "tqdm")  # as if they were not installed
PathFinder.find_spec = lambda name, *places: None if name.partition(".")[0] in absent else find(name, *places)
from pathlib import Path
from streamlit.testing.v1 import AppTest
from core import results
results.RESULTS = Path(sys.argv[1])
app = AppTest.from_file("dashboard/Home.py", default_timeout=300).run()
said = {}
for view in sys.argv[2:]:
    app.query_params["image"] = 4
    app.switch_page(f"views/{view}.py").run()
    assert not app.exception, (view, app.exception[0].value)
    assert app.title or view == "present", view
    assert not app.error, (view, app.error[0].value)
    said[view] = [one.value for one in (*app.info, *app.caption)] + [one.proto.body for one in app.get("html")]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def opened(tiny_results, tmp_path_factory) -> dict[str, list[str]]:
    """What every view says, in a process that cannot import torch; the run ships weights and has maps of two images."""
    folder = shutil.copytree(tiny_results, tmp_path_factory.mktemp("light") / "results")
    run = next(run for run in map(results.load_run, sorted(folder.glob("imagenet-*"))) if run.has_weights)
    rows = {"index": np.array([3, 17]), "target": np.array([5, 5]), "minus": np.array([-1, -1])}
    maps = {"grad_cam": {name: np.ones((2, 32, 32), np.float32) for name in ("resnet18", "mobilenet_v2")}}
    results.write_attributions(run.path / "fusion" / "attributions.npz", rows, maps, {}, {"image_size": 32})
    done = subprocess.run([sys.executable, "-c", VISIT, str(folder), *VIEWS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_every_view_opens_without_torch_in_reach(opened):
    assert sorted(opened) == VIEWS
    asking = {view for view, texts in opened.items() if any("pip install -r requirements.txt" in text for text in texts)}
    assert asking == {"attributions", "try_image"}


def test_maps_computed_before_are_shown_without_torch(opened):
    said = " ".join(opened["attributions"])
    assert "Test image 4 was not explained before; this is another." in said
    assert "Grad-CAM, ResNet18 branch" in said and "test image 3: " in said and "What speaks for dog to Fusion" in said
