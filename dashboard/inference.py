"""What needs the models themselves: the queue for torch, the models, and the answers remembered."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from streamlit.runtime.scriptrunner import add_script_run_ctx, get_script_run_ctx

from core import metrics, results
from core.config import BASELINES
from core.results import Run
from dashboard import release_libraries
from dashboard.data import stamp

DRAWING = threading.BoundedSemaphore(2)  # pages at once: fifty would hold the memory of fifty, and none be done sooner
INFERENCE = ThreadPoolExecutor(1, "inference")  # where torch works: hooks on a shared model do not mix, and each thread costs memory


def infer(compute: Callable[[], Any]) -> Any:
    """`compute()`, after those of other visitors that came before. It may show its progress."""
    visit = get_script_run_ctx(suppress_warning=True)

    def work() -> Any:
        add_script_run_ctx(threading.current_thread(), visit)
        return compute()

    return INFERENCE.submit(copy_context().run, work).result()


@st.cache_resource(show_spinner="Loading the models …", max_entries=6)
def _load_model(path: Path, model: str, stamp: tuple):
    from core.evaluate import load_shipped_model

    try:
        return load_shipped_model(results.load_run(path), model)
    finally:
        release_libraries()


def load_model(run: Run, model: str):
    """A model (core.models.Classifier) with the run's shipped weights, on the CPU, shared by all visitors. Raises UserError."""
    return _load_model(run.path, model, stamp(run.path / model))


@st.cache_data(show_spinner="The models look …", max_entries=32)
def _predict_image(path: Path, image: np.ndarray, stamp: tuple) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    import torch

    from core.evaluate import predict
    from core.runtime import World

    run = results.load_run(path)
    models = {name: load_model(run, name) for name in run.models}
    images = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]  # (1, 3, 32, 32)
    logits, seconds = {}, {}
    for name, model in models.items():
        start = time.perf_counter()
        logits[name] = predict(model, images, run.recipe.image_size, World(0, 1, torch.device("cpu")))[0].numpy()[0]
        seconds[name] = time.perf_counter() - start
    if set(BASELINES) <= set(logits):
        logits["ensemble"] = metrics.ensemble_logits(*(logits[name][None] for name in BASELINES))[0]
    return logits, seconds


def predict_image(run: Run, image: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """What the run's models, and the ensemble where both baselines are there, make of a uint8 image (32, 32, 3).

    Logits (10,) a model, and the seconds each trained model took. Raises UserError where weights are missing.
    """
    return infer(lambda: _predict_image(run.path, image, stamp(run.path)))


@st.cache_resource(show_spinner=False)
def _remembered() -> OrderedDict:
    """What `remember` holds, for all visitors."""
    return OrderedDict()


def remember(key: tuple, compute: Callable[[], Any], most: int = 500) -> Any:
    """`compute()`, kept under `key`. Unlike st.cache_data it lets a computation that takes long show its progress.

    Visitors wait for each other; those who ask the same wait for one answer.
    """
    kept = _remembered()

    def compute_once() -> Any:
        if (value := kept.get(key)) is None:
            value = kept[key] = compute()
        while len(kept) > most:
            kept.popitem(last=False)
        return value

    return value if (value := kept.get(key)) is not None else infer(compute_once)


@dataclass(frozen=True)
class Question:
    """What an attribution is asked: why this score of this model for this image?"""

    run: Run
    model: str
    image: np.ndarray  # (32, 32, 3) uint8
    target: int  # class
    minus: int | None = None  # explain how far the target's logit exceeds this class's

    @property
    def key(self) -> tuple:
        return self.run.path, stamp(self.run.path / self.model), self.model, self.image.tobytes(), self.target, self.minus

    def ask(self, name: str, progress: Callable[[float], None] | None = None, **options) -> Any:
        """core.explain.`name` on this question, remembered. Raises UserError where weights are missing."""
        from core import explain

        def compute() -> Any:
            import torch

            images = torch.from_numpy(self.image.copy()).permute(2, 0, 1)[None]  # (1, 3, 32, 32)
            settings = {"image_size": self.run.recipe.image_size, "minus": self.minus, **options}
            if progress:
                settings["progress"] = progress
            model = load_model(self.run, self.model)
            return getattr(explain, name)(model, images, target=self.target, **settings)

        hashable = tuple((k, v.tobytes() if isinstance(v, np.ndarray) else v) for k, v in sorted(options.items()))
        return remember((self.key, name, hashable), compute)


def load_methods() -> dict:
    """core.explain.METHODS; imports torch and captum."""
    from core import explain

    return explain.METHODS
