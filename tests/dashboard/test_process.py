"""What is tuned in the server's process touches nothing else."""

import gc
import os
import subprocess
import sys

from core.config import ROOT

UNTOUCHED = """
import os, sys
import streamlit.net_util as net
before = net.get_external_ip, sys.getswitchinterval(), dict(os.environ), sorted(sys.modules)
import dashboard, dashboard.process, {module}
assert (net.get_external_ip, sys.getswitchinterval()) == before[:2]
assert {{k: v for k, v in os.environ.items() if k not in before[2]}}.keys() <= {{"OMP_WAIT_POLICY"}}
assert "triton" not in sys.modules
import gc
assert gc.get_freeze_count() == 0
"""


def run_python(code: str) -> None:
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert finished.returncode == 0, finished.stderr


def test_importing_the_dashboard_tunes_nothing():
    for module in ("dashboard.data", "scripts.report"):
        run_python(UNTOUCHED.format(module=module))


def test_a_server_is_tuned_and_asks_no_other_host():
    run_python(
        "from dashboard import process\nprocess.tune()\nimport os, pyarrow\nfrom streamlit import net_util\n"
        "assert pyarrow.default_memory_pool().backend_name == 'system'\n"
        "assert net_util.get_external_ip() is None and net_util.get_internal_ip() is None"
    )


def test_the_collector_is_spared_what_it_has_seen(monkeypatch):
    from dashboard import process

    monkeypatch.setattr(process, "looked_at", None)
    monkeypatch.setattr(process.time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(process, "tuned", False)  # a test that ran Home.py before has tuned this process
    gc.unfreeze()  # other libraries freeze too
    process.tidy()
    assert gc.get_freeze_count() == 0  # this is no server
    monkeypatch.setattr(process, "tuned", True)
    try:
        process.tidy()
        frozen = gc.get_freeze_count()
        assert frozen > 10_000
        kept = [[] for _ in range(1_000)]
        process.tidy()
        assert gc.get_freeze_count() <= frozen + 100 and kept  # within the same minute nothing is looked at anew
    finally:
        gc.unfreeze()


def test_libraries_still_work_when_their_pages_are_handed_back():
    run_python(
        "import numpy, pandas\nfrom dashboard import process\nprocess.release_libraries()\nassert numpy.linalg.inv(numpy.eye(3)).sum() == 3"
    )
