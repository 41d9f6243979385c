"""Measure how fast this machine trains, and how fast it serves the dashboard.

python scripts/benchmark.py train --recipe cpu-96                              all three models
python scripts/benchmark.py train --recipe full-224 --out benchmark.json       numbers for a program
python scripts/benchmark.py dashboard                                          in a real Chromium (tests/requirements.txt)
"""

import argparse
import asyncio
import json
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count, repeat
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader
from torchvision import transforms

from core import results
from core.config import MODELS, RECIPES, ROOT, Recipe, UserError, exit_on_user_error
from core.data import MEAN, STD, Cifar10, load_cifar10, open_cifar10, to_input, train_batches
from core.models import build_model, count_costs
from core.runtime import autocast_dtype, open_world, synchronize
from core.train import build_optimizer, train_step

BLOCK = 5  # steps timed together: the two kinds take turns, so that a busy neighbour slows both
WARM_UP = 5  # steps
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-software-rasterizer", "--disable-background-networking"]
LOOK = 5  # seconds a visitor looks at a page before going on


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="images/s of training, of its bare steps, and of the usual input pipeline")
    train.add_argument("--recipe", required=True, choices=RECIPES, help="a named, complete set of training settings")
    train.add_argument("--model", nargs="+", default=["all"], choices=["all", *MODELS], help="which models (default: all)")
    train.add_argument("--data", type=Path, help="folder that holds cifar-10-batches-py (default: download to data/)")
    train.add_argument("--start-weights", default="none", metavar="imagenet|none|FOLDER", help="as in train.py (default: none)")
    train.add_argument("--steps", type=int, default=50, help="timed training steps of each kind (default: 50)")
    train.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    dashboard = commands.add_parser("dashboard", help="page loads, clicks, filters, memory and many visitors, in Chromium")
    dashboard.add_argument("--repeats", type=int, default=10, help="of each measurement; medians are shown (default: 10)")
    dashboard.add_argument("--visitors", type=int, default=20, help="at once, each walking through every view (default: 20)")
    dashboard.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    return parser.parse_args()


def real_batches(data: Cifar10, recipe: Recipe) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The project's own input pipeline, epoch after epoch."""
    for epoch in count():
        for images, labels in train_batches(data.train, recipe.batch_size, recipe.crop_padding, recipe.jitter, epoch):
            yield to_input(images, recipe.image_size), labels


def usual_batches(folder: Path | None, recipe: Recipe, device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What most scripts do: PIL images transformed one by one in two worker processes."""
    dataset = open_cifar10(folder)
    dataset.transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=recipe.crop_padding, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(recipe.jitter, recipe.jitter, recipe.jitter),
            transforms.Resize(recipe.image_size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    options = {"num_workers": 2, "shuffle": True, "drop_last": True, "pin_memory": device.type == "cuda"}
    while True:
        for images, labels in DataLoader(dataset, recipe.batch_size, **options):
            images = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            yield images, labels.to(device, non_blocking=True)


def time_steps(step: Callable, batches: Iterator, steps: int, device: torch.device) -> float:
    """Seconds of one step, input included, as the mean of `steps` of them."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(steps):
        step(*next(batches))
    synchronize(device)
    return (time.perf_counter() - start) / steps


def matmul_rate(device: torch.device, size: int = 8192, repeats: int = 20) -> float:
    """Floating point operations a second of a square bfloat16 matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    batches = repeat((a, b))
    time_steps(torch.matmul, batches, repeats, device)
    return 2 * size**3 / time_steps(torch.matmul, batches, repeats, device)


def peak_memory() -> float:
    """The most memory this process has held so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def measure_training(name: str, recipe: Recipe, args: argparse.Namespace, data: Cifar10, device: torch.device) -> dict:
    """Speeds of one model's fine-tuning, shares and multiples of them, and peak memory."""
    model = build_model(name, args.start_weights, recipe.hidden, recipe.dropout).to(device).train()
    macs = count_costs(model, recipe.image_size)["macs"]
    optimizer = build_optimizer(model, recipe)
    dtype = autocast_dtype(device, recipe.bfloat16)
    if recipe.compile:
        model.compile()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step(x: torch.Tensor, labels: torch.Tensor) -> None:
        train_step(model, optimizer, x, labels, recipe, dtype)

    real = real_batches(data, recipe)
    ready = repeat(next(real))
    time_steps(step, real, WARM_UP, device)
    seconds = np.array([[time_steps(step, kind, BLOCK, device) for kind in (real, ready)] for _ in range(-(-args.steps // BLOCK))])
    measured = {
        "images_per_second": recipe.batch_size / float(np.median(seconds[:, 0])),
        "images_per_second_ready_made": recipe.batch_size / float(np.median(seconds[:, 1])),
        "share_of_ready_made": float(np.median(seconds[:, 1] / seconds[:, 0])),
        "peak_memory_gib": peak_memory(),
    }
    if device.type == "cuda":
        measured["peak_gpu_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        achieved = 3 * 2 * macs * measured["images_per_second"]  # the backward pass costs twice the forward pass
        measured["share_of_matmul_rate"] = achieved / matmul_rate(device)
    usual = usual_batches(args.data, recipe, device)
    time_steps(step, usual, WARM_UP, device)
    measured["images_per_second_usual"] = recipe.batch_size / time_steps(step, usual, args.steps, device)
    measured["times_usual"] = measured["images_per_second"] / measured["images_per_second_usual"]
    return measured


def benchmark_training(args: argparse.Namespace) -> None:
    recipe = RECIPES[args.recipe]
    if args.steps < 1:
        raise UserError(f"--steps {args.steps}: time at least 1")
    with open_world() as world:
        data = load_cifar10(args.data, world.device)
        measured = {
            name: measure_training(name, recipe, args, data, world.device) for name in MODELS if name in args.model or "all" in args.model
        }
    report(measured, f"measured {', '.join(measured)} with {recipe.name}: {args.steps} steps of each kind", args.out)


def report(measured: dict[str, dict], line: str, out: Path | None) -> None:
    """Print a table, and write it as JSON where asked to."""
    print(pd.DataFrame(measured).to_string(float_format="{:,.3f}".format))
    if out:
        results.write_whole(out, lambda aside: aside.write_text(json.dumps(measured, indent=2) + "\n"))
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
        yield f"http://localhost:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def server_memory(pid: int) -> float:
    """Resident memory of a process now, in MB (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3


READY = "document.querySelector('h1') && document.querySelector('[data-test-script-state=notRunning]')"
CELL = """(plot) => {
    const box = plot.getBoundingClientRect(), { xaxis, yaxis } = plot._fullLayout
    return [box.left + xaxis._offset + xaxis.d2p('%s'), box.top + yaxis._offset + yaxis.d2p('%s')]
}"""


def path_of(view: str) -> str:
    """A view's path on the server, which Streamlit leaves empty for the first page."""
    return "" if view == "overview" else view


async def visit(page, address: str, view: str) -> float:
    """Load a view anew; seconds until it is drawn and the server has finished."""
    start = time.perf_counter()
    await page.goto(f"{address}/{path_of(view)}")
    await page.wait_for_function(READY)
    return time.perf_counter() - start


async def follow(page, view: str) -> float:
    """Click a view's link in the sidebar; seconds until it is drawn and the server has finished."""
    link = page.locator(f"[data-testid=stSidebarNavLink][href$='/{path_of(view)}']")
    before = await page.locator("h1").first.inner_text()
    return await change(page, link.click, f"{READY} && document.querySelector('h1').innerText != {before!r}")


async def change(page, action: Callable, shown: str) -> float:
    """Seconds from an action until the JavaScript condition `shown` holds."""
    start = time.perf_counter()
    await action()
    await page.wait_for_function(shown)
    return time.perf_counter() - start


async def point_at_cell(page, predicted: str, true: str) -> None:
    """Move the mouse over a matrix cell and wait until the chart has noticed."""
    x, y = await page.locator(".js-plotly-plot").first.evaluate(CELL % (predicted, true))
    await page.mouse.move(x, y)
    await page.wait_for_timeout(200)


async def walk(address: str, steps: list[tuple[str, str]], wait: float) -> tuple[list[float], int]:
    """A visitor without a browser, whose drawing would cost more than the server: seconds of each page, and how many exceptions."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.asyncio.client import connect

    times, errors = [], 0
    await asyncio.sleep(wait)
    async with connect(f"{address.replace('http', 'ws')}/_stcore/stream", max_size=None) as socket:
        for view, query in steps:
            message = BackMsg()
            message.rerun_script.page_name, message.rerun_script.query_string = path_of(view), query
            start = time.perf_counter()
            await socket.send(message.SerializeToString())
            while (answer := ForwardMsg.FromString(await socket.recv())).WhichOneof("type") != "script_finished":
                errors += answer.WhichOneof("type") == "delta" and answer.delta.new_element.HasField("exception")
            times.append(time.perf_counter() - start)
            await asyncio.sleep(LOOK)
    return times, errors


async def measure_dashboard(browser, address: str, pid: int, start: float, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds and MB, of a server started at `start` (time.perf_counter)."""
    views = sorted(path.stem for path in (ROOT / "dashboard" / "views").glob("*.py"))
    heavy = {"attributions", "try_image"}  # these may load torch
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    page = await context.new_page()
    await visit(page, address, "")
    measured = {"first page from server start": [time.perf_counter() - start]}
    light = [view for view in views if view not in heavy]
    for view in light:
        await visit(page, address, view)
    memory = {"server memory after all views without torch (MB)": server_memory(pid)}
    for view in light:
        measured[f"opened in a new page: {view}"] = [await visit(page, address, view) for _ in range(args.repeats)]
    for view in [v for v in light if v != "present"]:  # which hides the links
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
        shown = (
            f"document.body.innerText.includes('images of true class {true} that') && document.body.innerText.includes('calls {predicted}')"
        )
        await point_at_cell(page, predicted, true)

        async def click() -> None:
            await page.mouse.down()
            await page.mouse.up()

        measured["matrix click to its images"].append(await change(page, click, shown))
        await page.wait_for_function(READY)
    measured["filter change with 200 thumbnails"] = []
    await visit(page, address, "errors?per_page=200&outcome=everything")
    for i in range(args.repeats):
        model = ("resnet18", "fusion")[i % 2]
        shown = f"document.body.innerText.includes('answers of {'ResNet18' if model == 'resnet18' else 'Fusion'}')"
        button = page.get_by_role("radio", name=model, exact=True).first
        measured["filter change with 200 thumbnails"].append(await change(page, button.click, shown))
        await page.wait_for_function(READY)
    await context.close()

    steps = [(view, "") for view in light]
    steps += [("confusion", "true_class=cat&predicted_class=dog"), ("errors", "per_page=200&outcome=everything&model=resnet18")]
    turns = [steps[i % len(steps) :] + steps[: i % len(steps)] for i in range(args.visitors)]
    walks = await asyncio.gather(*(walk(address, turn, LOOK * i / args.visitors) for i, turn in enumerate(turns)))
    times, errors = [one for times, _ in walks for one in times], sum(errors for _, errors in walks)
    crowd = {"p50 (s)": np.median(times), "p95 (s)": np.quantile(times, 0.95), "errors": errors, "pages": len(times)}
    context = await browser.new_context()
    page = await context.new_page()
    for view in heavy & set(views):
        await visit(page, address, f"{view}?image=17")
    memory["server memory with attributions (MB)"] = server_memory(pid)
    return {
        "median (s)": {name: float(np.median(values)) for name, values in measured.items()},
        "worst (s)": {name: float(np.max(values)) for name, values in measured.items()},
        "value": {**memory, **{f"{args.visitors} visitors: {name}": float(value) for name, value in crowd.items()}},
    }


def benchmark_dashboard(args: argparse.Namespace) -> None:
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
            start = time.perf_counter()
            with serve_dashboard() as (address, pid):
                return await measure_dashboard(browser, address, pid, start, args)

    report(asyncio.run(drive()), f"measured the dashboard: {args.repeats} repeats, {args.visitors} visitors", args.out)


def main() -> None:
    args = parse_arguments()
    {"train": benchmark_training, "dashboard": benchmark_dashboard}[args.command](args)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
