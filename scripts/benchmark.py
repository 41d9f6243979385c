"""Measure how fast this machine trains, and how fast it serves the dashboard.

python scripts/benchmark.py train --recipe cpu-96                              all three models
python scripts/benchmark.py train --recipe full-224 --out benchmark.json       numbers for a program
python scripts/benchmark.py dashboard                                          in a real Chromium (tests/requirements.txt)
python scripts/benchmark.py load --visitors 50 --minutes 5                     many visitors for a while, without a browser
"""

import argparse
import asyncio
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
from tqdm import tqdm

from core import results
from core.config import MODELS, RECIPES, ROOT, TRIO, UserError, check_range, choose_models, exit_on_user_error

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-software-rasterizer", "--disable-background-networking"]
HEAVY = ("attributions", "try_image")  # views that may load torch
LIGHT = tuple(name for path in sorted((ROOT / "dashboard" / "views").glob("*.py")) if (name := path.stem) not in HEAVY)
LOOK = 5  # seconds a visitor looks at a page before going on


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="images/s of training, of its bare steps, and of the usual input pipeline")
    train.add_argument("--recipe", default="cpu-96", choices=RECIPES, help="a named, complete set of training settings (default: cpu-96)")
    train.add_argument("--model", nargs="+", default=["all"], choices=["all", *MODELS], help="which models (default: all)")
    train.add_argument("--data", type=Path, help="folder that holds cifar-10-batches-py (default: download to data/)")
    train.add_argument("--start-weights", default="none", metavar="imagenet|none|FOLDER", help="as in train.py (default: none)")
    train.add_argument("--steps", type=int, default=50, help="timed training steps of each kind (default: 50)")
    train.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    dashboard = commands.add_parser("dashboard", help="page loads, clicks, filters, memory and many visitors, in Chromium")
    dashboard.add_argument("--repeats", type=int, default=10, help="of each measurement; medians are shown (default: 10)")
    dashboard.add_argument("--visitors", type=int, default=20, help="at once, each walking through every view (default: 20)")
    dashboard.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    load = commands.add_parser("load", help="answer times, errors and memory of a server with many visitors on all views")
    load.add_argument("--visitors", type=int, default=50, help="at once, each going from view to view (default: 50)")
    load.add_argument("--minutes", type=float, default=5, help="how long (default: 5)")
    load.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    return parser.parse_args()


def benchmark_training(args: argparse.Namespace) -> None:
    from core.speed import BLOCK, measure_all

    check_range("--steps", args.steps, 1, 1_000_000)
    models = choose_models(args.model, TRIO)
    recipe = RECIPES[args.recipe]
    recipe.check()
    measured = measure_all(recipe, models, args.steps, args.start_weights, args.data)
    report(measured, f"measured {', '.join(measured)} with {args.recipe}: {-(-args.steps // BLOCK) * BLOCK} steps of each kind", args.out)


def report(measured: dict[str, dict], line: str, out: Path | None) -> None:
    """Print a table, and write it as JSON where asked to."""
    print(pd.DataFrame(measured).to_string(float_format="{:,.3f}".format))
    if out:
        results.write_text(out, json.dumps(measured, indent=2) + "\n")
        line = f"wrote {out}: {line}"
    print(line)


@contextmanager
def serve_dashboard() -> Iterator[tuple[str, int]]:
    """Start a server on a free port; yield its address and process id as soon as it answers."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard" / "Home.py"), "--server.headless", "true"]
    process = subprocess.Popen([*command, "--server.port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with suppress(ConnectionRefusedError), socket.create_connection(("localhost", port)):
                break
            time.sleep(0.02)
        if process.poll() is not None:
            raise UserError("the dashboard's server ended at once: streamlit run dashboard/Home.py says why")
        yield f"http://localhost:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def server_memory(pid: int) -> float:
    """Resident memory of a server now, in MB; NaN where the system does not tell it as Linux does. Raises UserError where it ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return float("nan")
    if not (held := re.search(r"VmRSS:\s+(\d+)", status)):  # as of a child that ended
        raise UserError("the dashboard's server ended while it was measured: it may have run out of memory, so try fewer --visitors")
    return int(held[1]) / 1e3


READY = "document.querySelector('h1') && document.querySelector('[data-test-script-state=notRunning]')"
CELL = """(plot) => {
    const box = plot.getBoundingClientRect(), { xaxis, yaxis } = plot._fullLayout
    return [box.left + xaxis._offset + xaxis.d2p('%s'), box.top + yaxis._offset + yaxis.d2p('%s')]
}"""


def path_of(view: str) -> str:
    """A view's path on the server, which Streamlit leaves empty for the first page."""
    return "" if view == "overview" else view


async def visit(page: "Page", address: str, view: str) -> float:
    """Load a view anew; seconds until it is drawn and the server has finished."""
    start = time.perf_counter()
    await page.goto(f"{address}/{path_of(view)}")
    await page.wait_for_function(READY)
    return time.perf_counter() - start


async def follow(page: "Page", view: str) -> float:
    """Click a view's link in the sidebar; seconds until it is drawn and the server has finished."""
    sidebar, path = page.locator("[data-testid=stSidebar]"), path_of(view)
    link = sidebar.locator(f"a[href='{path}'], a[href^='{path}?']").first  # it takes the run along
    before = await page.locator("h1").first.inner_text()
    return await change(page, link.click, f"{READY} && document.querySelector('h1').innerText != {before!r}")


async def change(page: "Page", action: Callable, shown: str) -> float:
    """Seconds from an action until the JavaScript condition `shown` holds."""
    start = time.perf_counter()
    await action()
    await page.wait_for_function(shown)
    return time.perf_counter() - start


async def point_at_cell(page: "Page", predicted: str, true: str) -> None:
    """Move the mouse over a matrix cell and wait until the chart has noticed."""
    x, y = await page.locator(".js-plotly-plot").first.evaluate(CELL % (predicted, true))
    await page.mouse.move(x, y)
    await page.wait_for_timeout(200)


async def walk(address: str, steps: Iterable[tuple[str, str]], wait: float) -> tuple[list[tuple[str, float]], int]:
    """A visitor without a browser, whose drawing would cost more than the server: views with their seconds, and how many exceptions."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.asyncio.client import connect

    times, errors = [], 0
    await asyncio.sleep(wait)
    async with connect(f"{address.replace('http', 'ws')}/_stcore/stream", max_size=None, ping_timeout=None) as socket:
        for view, query in steps:
            message = BackMsg()
            message.rerun_script.page_name, message.rerun_script.query_string = path_of(view), query
            start = time.perf_counter()
            await socket.send(message.SerializeToString())
            while (answer := ForwardMsg.FromString(await socket.recv())).WhichOneof("type") != "script_finished":
                if answer.WhichOneof("type") == "delta" and answer.delta.new_element.HasField("exception"):
                    errors += 1
                    tqdm.write(f"{view}?{query}: {answer.delta.new_element.exception.message}", file=sys.stderr)
            times.append((view, time.perf_counter() - start))
            await asyncio.sleep(LOOK)
    return times, errors


async def gather_visitors(address: str, visitors: int, until: float | None = None) -> dict[str, float]:
    """Let visitors walk through all views that do without torch once, or, until `until` (time.perf_counter), through all again and again.

    Each begins with another view. Of the images that attributions are asked for there are ten, as of those a class looks at.
    """
    steps = [(view, "") for view in LIGHT]
    steps += [("confusion", "true_class=cat&predicted_class=dog"), ("errors", "per_page=200&outcome=everything&model=resnet18")]
    if until:
        steps += [("try_image", "image=17"), ("attributions", "image={image}")]

    def turns(visitor: int) -> Iterator[tuple[str, str]]:
        for turn in count():
            for i in range(len(steps)):
                if time.perf_counter() > (until or math.inf):
                    return
                view, query = steps[(visitor + i) % len(steps)]
                yield view, query.format(image=10 * ((visitor + turn) % 10))
            if not until:
                return

    walks = await asyncio.gather(*(walk(address, turns(i), LOOK * i / visitors) for i in range(visitors)))
    times = {
        kind: [seconds for walked, _ in walks for view, seconds in walked if (view in HEAVY) == (kind == "heavy")] for kind in ("", "heavy")
    }
    figures = {"errors": sum(errors for _, errors in walks)}
    for kind, seconds in times.items():
        if seconds:
            figures |= {f"{kind} pages".strip(): len(seconds)}
            figures |= {f"{kind} p{q} (s)".strip(): float(np.quantile(seconds, q / 100)) for q in (50, 95)}
    return figures


async def start_dashboard(browser: "Browser") -> float:
    """Seconds from the start of a server until its first page is drawn in a browser that already runs."""
    start = time.perf_counter()
    with serve_dashboard() as (address, _):
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await visit(page, address, "")
        seconds = time.perf_counter() - start
        await page.close()
    return seconds


async def measure_memory(browser: "Browser") -> dict[str, float]:
    """MB that a server holds after one visit to every view, first without and then with those that load torch."""
    page = await browser.new_page(viewport={"width": 1440, "height": 900})
    with serve_dashboard() as (address, pid):
        for view in LIGHT:
            await visit(page, address, view)
        memory = {"server memory after all views without torch (MB)": server_memory(pid)}
        for view in HEAVY:
            await visit(page, address, f"{view}?image=17")
        memory["server memory with attributions (MB)"] = server_memory(pid)
    await page.close()
    return memory


async def measure_dashboard(
    browser: "Browser", address: str, pid: int, args: argparse.Namespace
) -> tuple[dict[str, list], dict[str, float]]:
    """Seconds of each action, and other figures of a server."""
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    page = await context.new_page()
    measured = {}
    for view in LIGHT:
        await visit(page, address, view)
        measured[f"opened in a new page: {view}"] = [await visit(page, address, view) for _ in range(args.repeats)]
    for view in [v for v in LIGHT if v != "present"]:  # which hides the links
        away, times = "training" if view == "overview" else "overview", []
        await visit(page, address, away)
        for _ in range(args.repeats + 1):
            times.append(await follow(page, view))
            await follow(page, away)
        measured[f"followed a link to: {view}"] = times[1:]

    measured["matrix click to its images"] = []
    cells = [("dog", "cat"), ("cat", "dog"), ("automobile", "truck"), ("airplane", "ship")]
    await visit(page, address, "confusion?model=resnet18")
    for i in range(args.repeats):
        predicted, true = cells[i % len(cells)]
        shown = f"location.search.includes('true={true}') && location.search.includes('predicted={predicted}')"  # written when drawn
        await point_at_cell(page, predicted, true)

        async def click() -> None:
            await page.mouse.down()
            await page.mouse.up()

        measured["matrix click to its images"].append(await change(page, click, shown))
        await page.wait_for_function(READY)
    measured["filter change with 200 thumbnails"] = []
    await visit(page, address, "errors?per_page=200&outcome=everything")
    for i in range(args.repeats):
        model, shown = (("ResNet18", "location.search.includes('model=')"), ("Fusion", "!location.search.includes('model=')"))[i % 2]
        button = page.get_by_role("radio", name=model, exact=True).first
        measured["filter change with 200 thumbnails"].append(await change(page, button.click, shown))
        await page.wait_for_function(READY)
    await context.close()

    crowd = await gather_visitors(address, args.visitors) | {"server memory then (MB)": server_memory(pid)}
    return measured, {f"{args.visitors} visitors: {name}": float(value) for name, value in crowd.items()}


def benchmark_load(args: argparse.Namespace) -> None:
    check_range("--visitors", args.visitors, 1, 10_000)
    check_range("--minutes", args.minutes, 0.01, 60 * 24)

    async def drive() -> dict:
        with serve_dashboard() as (address, pid):
            begun, memory = time.perf_counter(), []
            visits = asyncio.create_task(gather_visitors(address, args.visitors, begun + 60 * args.minutes))
            with tqdm(total=round(60 * args.minutes), unit="s", desc=f"{args.visitors} visitors") as bar:
                while not visits.done():
                    await asyncio.sleep(5)
                    memory.append((time.perf_counter() - begun, server_memory(pid)))
                    bar.update(min(5, bar.total - bar.n))
            value = await visits
            late = [held for seconds, held in memory if seconds >= 12 * args.minutes]  # without the first fifth, when caches fill
            spread = {"memory least": min(late), "memory most": max(late), "memory growth (%)": 100 * (late[-1] / late[0] - 1)}
            return {"value": value | spread}

    report(asyncio.run(drive()), f"measured {args.visitors} visitors for {args.minutes:g} minutes; memory in MB", args.out)


def benchmark_dashboard(args: argparse.Namespace) -> None:
    check_range("--repeats", args.repeats, 1, 10_000)
    check_range("--visitors", args.visitors, 1, 10_000)
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        raise UserError("playwright is missing: pip install -r tests/requirements.txt") from None
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise UserError("no Chromium on this machine: install Debian's chromium, or Chrome")

    async def drive() -> dict:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
            starts = [await start_dashboard(browser) for _ in range(args.repeats)]
            memory = await measure_memory(browser)
            with serve_dashboard() as (address, pid):
                measured, crowd = await measure_dashboard(browser, address, pid, args)
        measured["first page from server start"] = starts
        return {
            "median (s)": {name: float(np.median(values)) for name, values in measured.items()},
            "worst (s)": {name: float(np.max(values)) for name, values in measured.items()},
            "value": memory | crowd,
        }

    report(asyncio.run(drive()), f"measured the dashboard: {args.repeats} repeats, {args.visitors} visitors", args.out)


def main() -> None:
    args = parse_arguments()
    {"train": benchmark_training, "dashboard": benchmark_dashboard, "load": benchmark_load}[args.command](args)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
