"""A real server on made-up results, and a real Chromium that reports every request that leaves the machine."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, WebError, sync_playwright

from core.config import ROOT
from tests.fake_run import make_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
CLOSED = re.compile(  # Streamlit itself may fail to close what a browser has just closed
    r"Exception in ASGI application\n(?:(?!Exception in ASGI)[\s\S])*?Cannot call \"send\" once a close message has been sent\."
)
DESK = {"width": 1440, "height": 900}
WATCH = """{
  window.asked = window.ended = 0  // when the page last asked the server for a run, and when one was last seen to end
  const send = WebSocket.prototype.send
  WebSocket.prototype.send = function (message) {
    const bytes = new Uint8Array(message.buffer ?? message, message.byteOffset ?? 0)
    if (bytes[0] === 0x5a) window.asked = performance.now()  // the tag of BackMsg.rerun_script
    return send.call(this, message)
  }
  new MutationObserver(() => {
    const app = document.querySelector('[data-testid=stApp]')
    if (app?.dataset.testScriptState === 'notRunning') window.ended = performance.now()
  }).observe(document, { subtree: true, attributeFilter: ['data-test-script-state'] })
}"""


@pytest.fixture(scope="session")
def shown_results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "results"
    make_run(folder, "imagenet-96-seed0", image_sizes=(64, 64, 64, 96, 96))
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
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, log.read_text(encoding="utf-8")
                time.sleep(0.1)
        else:
            raise AssertionError(f"the server does not answer: {log.read_text(encoding='utf-8')}")
        yield address
    finally:
        process.terminate()
        process.wait(60)
        said = CLOSED.sub("", log.read_text(encoding="utf-8"))
        assert "Traceback" not in said, said[-3000:]


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


@contextmanager
def open_window(chromium: Browser, address: str) -> Iterator[BrowserContext]:
    """A window on a dashboard, with one tab that all tests use: in a new one the browser compiles Streamlit's scripts anew."""
    context = chromium.new_context(viewport=DESK, base_url=address, accept_downloads=True, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    context.add_init_script(WATCH)
    context.new_page()
    yield context
    context.close()


@contextmanager
def open_tab(context: BrowserContext, address: str) -> Iterator[Page]:
    """The tab as if new, nothing kept of other visits; fails if it asked anyone but the server for anything, or a script in it failed."""
    (page,), outside, errors = context.pages, [], []
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")
    note, fail = partial(note_outside, outside, address), partial(note_error, errors)
    context.on("request", note)
    context.on("weberror", fail)
    yield page
    page.unroute_all(behavior="ignoreErrors")
    for tab in context.pages[1:]:
        tab.close()
    page.evaluate("sessionStorage.clear()")
    page.goto("about:blank")
    protocol = context.new_cdp_session(page)
    protocol.send("Storage.clearDataForOrigin", {"origin": address, "storageTypes": "all"})
    protocol.send("Page.resetNavigationHistory")
    context.remove_listener("request", note)
    context.remove_listener("weberror", fail)
    context.clear_permissions()
    assert outside == []
    assert errors == []


def note_outside(outside: list[str], address: str, request: Request) -> None:
    if not request.url.startswith((address, "data:", "blob:")):
        outside.append(request.url)


def note_error(errors: list[str], failed: WebError) -> None:
    errors.append(failed.error.stack or failed.error.message)


@pytest.fixture(scope="session")
def window(chromium: Browser, server: str) -> Iterator[BrowserContext]:
    with open_window(chromium, server) as context:
        yield context


@pytest.fixture
def page(window: BrowserContext, server: str) -> Iterator[Page]:
    with open_tab(window, server) as page:
        yield page
