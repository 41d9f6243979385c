"""A real server on made-up results, and a real Chromium that reports every request that leaves the machine."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from core.config import ROOT
from tests.fake_run import make_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.fixture(scope="session")
def shown_results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "results"
    make_run(folder, "imagenet-96-seed0")
    return folder


@contextmanager
def serve(folder: Path, log: Path) -> Iterator[str]:
    """The address of a dashboard on the results in `folder`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    address = f"http://localhost:{port}"
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/Home.py", "--server.headless", "true", "--server.port", str(port)]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"RESULTS_DIR": str(folder)}
        )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, log.read_text(encoding="utf-8")
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(10)
        assert "Traceback" not in log.read_text(encoding="utf-8"), log.read_text(encoding="utf-8")[-3000:]


@pytest.fixture(scope="session")
def server(shown_results, tmp_path_factory) -> Iterator[str]:
    """The address of a dashboard on the made-up results."""
    with serve(shown_results, tmp_path_factory.mktemp("server") / "log") as address:
        yield address


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install Debian's chromium, or Chrome")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)


@pytest.fixture
def page(chromium, server) -> Iterator[Page]:
    """A fresh tab; the test fails if it asked anyone but the server for anything."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, base_url=server, accept_downloads=True)
    context.set_default_timeout(60_000)
    outside = []
    context.on("request", lambda r: outside.append(r.url) if not r.url.startswith((server, "data:", "blob:")) else None)
    yield context.new_page()
    context.close()
    assert outside == []
