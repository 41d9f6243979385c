"""A new backbone, fused in place of another, takes one entry in core/config.py and one look in dashboard/theme.py."""

import os
import subprocess
import sys
from pathlib import Path

from core.config import ROOT

CHAIN = """
import runpy, sys, types
from pathlib import Path

root, data, out = map(Path, sys.argv[1:])
sys.path.insert(0, str(root))
import core

source = (root / "core" / "config.py").read_text(encoding="utf-8")
entry = 'Backbone("mobilenet_v3_small", "MobileNetV3 small", 576, "classifier", "features", MOBILENET_STAGES),'
for old, new in (
    ('        Backbone("resnet34",', f'        {entry}\\n        Backbone("resnet34",'),
    ('("resnet18", "mobilenet_v2"))', '("mobilenet_v3_small", "mobilenet_v2"))'),
):
    assert source.count(old) == 1, old
    source = source.replace(old, new)
config = types.ModuleType("core.config")
config.__file__ = str(root / "core" / "config.py")
sys.modules["core.config"] = core.config = config
exec(compile(source, config.__file__, "exec"), config.__dict__)

from torchvision.datasets import CIFAR10
from tests.fake_cifar import expected_files

for attribute, value in expected_files(data).items():
    setattr(CIFAR10, attribute, value)
run = out / "results" / "pair-32-seed0"
sys.argv = ["train.py", "--recipe", "smoke", "--data", str(data), "--start-weights", "none", "--checkpoints", str(out), "--out", str(run)]
runpy.run_path(str(root / "scripts" / "train.py"), run_name="__main__")

from core import results
from dashboard import theme

theme.STYLES["mobilenet_v3_small"] = theme.Style("MobileNetV3 small", "#4f5d75", "dash", "circle")
assert results.load_run(run).models == ["mobilenet_v3_small", "mobilenet_v2", "fusion"]
results.SPLIT_SIZES["test"] = 300  # of the made-up images
from streamlit.testing.v1 import AppTest

for view in VIEWS:
    app = AppTest.from_file(str(root / "dashboard" / "Home.py"), default_timeout=120)
    if view != "overview":
        app.switch_page(f"views/{view}.py")
    app.run()
    assert not app.exception and not app.error, (view, app.exception, app.error)
    shown = " ".join(str(element.proto) for element in app.main)
    assert view != "overview" or "MobileNetV3 small" in shown
    assert "resnet18" not in shown and "ResNet18" not in shown, (view, shown)
print("whole chain")
"""
VIEWS = ("overview", "evidence", "training", "confusion", "rescued", "present")


def test_one_entry_makes_a_new_backbone_run_through_the_whole_chain(fake_cifar: Path, tmp_path: Path):
    script = CHAIN.replace("VIEWS", repr(VIEWS))
    environment = os.environ | {"RESULTS_DIR": str(tmp_path / "results"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(ROOT), str(fake_cifar), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert done.stdout.splitlines()[-1] == "whole chain"
