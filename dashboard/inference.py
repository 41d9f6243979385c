"""What needs the models themselves: the queue for torch, the models, and the answers remembered.

A page's own thread waits here and draws the progress: Streamlit ends that thread alone when its visitor leaves, goes on or
chooses anew. Work that nobody waits for any more is then told to stop.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core import metrics
from core.config import BASELINES, ENSEMBLE
from core.explain import METHODS
from core.results import Run
from dashboard.data import BY_STAMP, stamp

if TYPE_CHECKING:
    from core.models import Classifier

# A thread for each kind of work, so that short work never waits for long; more of a kind would take memory and be done no sooner.
SHORT, MAPS, CHECKS = (ThreadPoolExecutor(1, name) for name in ("short", "maps", "checks"))
FEW = 2  # images through a model, at most, in short work: a prediction, Grad-CAM, Saliency
KEPT = 500  # answers
PATIENCE = 0.1  # seconds between two looks at whether the visitor is still there


class NotYet(Exception):
    """The work goes on; ask again."""


class Abandoned(Exception):
    """Nobody waits for this work any more."""


@dataclass
class Job:
    """Work in the queue, for all who ask the same."""

    compute: Callable[[Callable[[float], None]], Any]  # told how to tell its progress
    waiting: int = 0  # visitors
    share: float = 0.0  # done
    future: Future | None = None

    def tell(self, share: float) -> None:
        """The computation's progress: the place where it ends when nobody waits for it."""
        if not self.waiting:
            raise Abandoned
        self.share = share


class Queue:
    """Jobs in progress and answers remembered, for all visitors."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.jobs: dict[Hashable, Job] = {}
        self.answers: OrderedDict[Hashable, Any] = OrderedDict()

    def ask(self, key: Hashable, compute: Callable, lane: ThreadPoolExecutor, draw: Callable[[float], None] | None) -> Any:
        """The answer under `key`: remembered, or of the job that computes it already, or of a new one.

        `draw` shows the share done while this thread waits; whatever it raises ends the waiting.
        """
        with self.lock:
            if key in self.answers:
                self.answers.move_to_end(key)
                return self.answers[key]
            job = self.jobs.setdefault(key, Job(compute))
            job.waiting += 1
            if job.future is None:
                job.future = lane.submit(self.work, key, job)
        try:
            while True:
                try:
                    return job.future.result(PATIENCE)
                except TimeoutError:
                    if job.future.done():
                        return job.future.result()  # or it raises what the work raised, perhaps a TimeoutError of its own
                    if draw:
                        draw(job.share)
        finally:
            with self.lock:
                job.waiting -= 1
                if self.jobs.get(key) is job and (job.future.done() or not job.waiting):  # failed, or asked for by nobody
                    job.future.cancel()
                    del self.jobs[key]

    def glance(self, key: Hashable, compute: Callable, lane: ThreadPoolExecutor) -> Any:
        """The answer under `key` without waiting for it: raises NotYet while the work, begun here at the latest, goes on."""
        with self.lock:
            if key in self.answers:
                self.answers.move_to_end(key)
                return self.answers[key]
            job = self.jobs.setdefault(key, Job(compute))
            if job.future is None:
                job.waiting += 1  # until it is done: whoever glances comes again
                job.future = lane.submit(self.work, key, job)
            if not job.future.done():
                raise NotYet
            self.jobs.pop(key, None)
        return job.future.result()

    def work(self, key: Hashable, job: Job) -> Any:
        """Compute and remember; in the lane's thread."""
        job.tell(0.0)
        answer = job.compute(job.tell)
        with self.lock:
            if self.jobs.get(key) is job:  # whoever glanced may never come again
                del self.jobs[key]
            self.answers[key] = answer
            while len(self.answers) > KEPT:
                self.answers.popitem(last=False)
        return answer


@st.cache_resource(show_spinner=False)
def open_queue() -> Queue:
    """The one queue of this server."""
    return Queue()


def wait_for(key: Hashable, compute: Callable, lane: ThreadPoolExecutor, text: str) -> Any:
    """`open_queue().ask`, with a bar on the page for as long as it takes."""
    if get_script_run_ctx(suppress_warning=True) is None:  # asked by a program, not by a page
        return open_queue().ask(key, compute, lane, None)
    place = st.empty()
    answer = open_queue().ask(key, compute, lane, lambda share: place.progress(share, text))
    place.empty()
    return answer


@st.cache_resource(show_spinner=False, max_entries=6, hash_funcs=BY_STAMP)
def load_model(run: Run, model: str) -> "Classifier":
    """A model with the run's shipped weights, on the CPU, shared by all visitors. Raises UserError."""
    from core.evaluate import load_shipped_model

    return load_shipped_model(run, model)


def predict_image(run: Run, image: np.ndarray) -> dict[str, np.ndarray]:
    """Logits (10,) of the run's models, and of the ensemble where both baselines are there, for a uint8 image (32, 32, 3).

    Raises UserError where weights are missing.
    """

    def compute(tell: Callable[[float], None]) -> dict[str, np.ndarray]:
        import torch

        from core.evaluate import predict
        from core.runtime import World

        images = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]  # (1, 3, 32, 32)
        logits = {}
        for i, name in enumerate(run.models):
            tell(i / len(run.models))
            logits[name] = predict(load_model(run, name), images, run.recipe.image_size, World(0, 1, torch.device("cpu")))[0].numpy()[0]
        if set(BASELINES) <= set(logits):
            logits[ENSEMBLE] = metrics.ensemble_logits(*(logits[name][None] for name in BASELINES))[0]
        return logits

    return wait_for(("predict", run.path, stamp(run.path), image.tobytes()), compute, SHORT, "The models look …")


@dataclass(frozen=True)
class Question:
    """core.explain's Question of a run's model about one image."""

    run: Run
    model: str
    image: np.ndarray  # (32, 32, 3) uint8
    target: int  # class
    contrast: int | None = None  # explain how far the target's logit exceeds this class's

    @property
    def key(self) -> tuple:
        return self.run.path, stamp(self.run.path / self.model), self.model, self.image.tobytes(), self.target, self.contrast

    def ask(self, name: str, text: str = "Explaining …", **options: Any) -> Any:
        """The function `name` of core.explain on this question, remembered. Raises UserError where weights are missing.

        `text` stands beside the bar that shows its progress.
        """
        return wait_for(*self.order(name, options), text)

    def glance(self, name: str, **options: Any) -> Any:
        """`ask`, raising NotYet instead of waiting."""
        return open_queue().glance(*self.order(name, options))

    def order(self, name: str, options: dict[str, Any]) -> tuple[Hashable, Callable, ThreadPoolExecutor]:
        """What the queue needs to know of it: key, work, and where it is done."""

        def compute(tell: Callable[[float], None]) -> Any:
            import torch

            from core.explain import methods, score, trust

            images = torch.from_numpy(self.image.copy()).permute(2, 0, 1)[None]  # (1, 3, 32, 32)
            model = load_model(self.run, self.model)
            question = score.Question.about(model, images, self.target, self.run.recipe.image_size, self.contrast)
            function = next(getattr(module, name) for module in (methods, trust, score) if hasattr(module, name))
            return function(question, progress=tell, **options)

        hashable = tuple((k, v.tobytes() if isinstance(v, np.ndarray) else v) for k, v in sorted(options.items()))
        if name == "score_change" or (name == "attribute" and METHODS[options["method"]].passes <= FEW):
            lane = SHORT
        else:
            lane = MAPS if name == "attribute" else CHECKS
        return (self.key, name, hashable), compute, lane
