"""The queue for torch: short work never waits for long, equal questions share one answer, and what nobody waits for stops."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from core import results
from dashboard import inference
from dashboard.inference import CHECKS, MAPS, SHORT, Abandoned, Queue

SOON = 5  # seconds within which a thread of a busy machine gets its turn


class Left(Exception):
    """What Streamlit raises in a page's thread when its visitor leaves."""


class Work:
    """A computation that goes on until it is told to stop, or `finish` is set."""

    def __init__(self) -> None:
        self.started, self.finish, self.stopped = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, tell: Callable[[float], None]) -> str:
        self.started.set()
        try:
            while not self.finish.wait(0.01):
                tell(0.5)
        except Abandoned:
            self.stopped.set()
            raise
        return "done"


def leave_when(event: threading.Event) -> Callable[[float], None]:
    """A `draw` that ends the visit as soon as `event` is set."""

    def draw(share: float) -> None:
        if event.is_set():
            raise Left

    return draw


def test_an_answer_is_computed_once_and_remembered():
    queue, asked = Queue(), []

    def compute(tell: Callable[[float], None]) -> int:
        asked.append(1)
        return 7

    assert [queue.ask("key", compute, SHORT, None) for _ in range(3)] == [7, 7, 7] and asked == [1]


def test_work_stops_when_its_last_visitor_leaves_and_only_then():
    queue, work = Queue(), Work()
    first, second = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as visitors:
        one = visitors.submit(queue.ask, "key", work, CHECKS, leave_when(first))
        two = visitors.submit(queue.ask, "key", work, CHECKS, leave_when(second))
        assert work.started.wait(SOON)
        while queue.jobs["key"].waiting < 2:
            time.sleep(0.01)
        first.set()
        with pytest.raises(Left):
            one.result(SOON)
        assert not work.stopped.wait(0.3)
        second.set()
        with pytest.raises(Left):
            two.result(SOON)
    assert work.stopped.wait(SOON) and not queue.jobs and not queue.answers


def test_work_that_has_not_begun_is_taken_out_of_the_queue():
    queue, busy, never = Queue(), Work(), Work()
    gone = threading.Event()
    gone.set()
    with ThreadPoolExecutor(1) as visitors:
        running = visitors.submit(queue.ask, "busy", busy, CHECKS, None)
        assert busy.started.wait(SOON)
        with pytest.raises(Left):
            queue.ask("never", never, CHECKS, leave_when(gone))
        busy.finish.set()
        assert running.result(SOON) == "done"
    assert queue.ask("next", lambda tell: 3, CHECKS, None) == 3 and not never.started.is_set()


def test_who_asks_again_after_all_have_left_gets_an_answer():
    queue, first, again = Queue(), Work(), Work()
    again.finish.set()
    with pytest.raises(Left):
        queue.ask("key", first, CHECKS, leave_when(first.started))
    assert queue.ask("key", again, CHECKS, None) == "done" and first.stopped.is_set()


def test_short_work_does_not_wait_for_long():
    queue, work = Queue(), Work()
    with ThreadPoolExecutor(1) as visitors:
        running = visitors.submit(queue.ask, "long", work, CHECKS, None)
        assert work.started.wait(SOON)
        assert queue.ask("short", lambda tell: 1, SHORT, None) == 1
        assert not running.done()
        work.finish.set()
        assert running.result(SOON) == "done"


def test_each_kind_of_work_has_its_thread(monkeypatch):
    monkeypatch.setattr(inference, "wait_for", lambda key, compute, lane, text: lane)
    monkeypatch.setattr(inference.Question, "key", ())
    question = inference.Question(None, "fusion", np.zeros((32, 32, 3), np.uint8), 3)
    assert {question.ask("attribute", method=method) for method in ("grad_cam", "saliency", "guided_backprop")} == {SHORT}
    assert {question.ask("attribute", method=method) for method in ("integrated_gradients", "occlusion", "smoothgrad")} == {MAPS}
    assert {question.ask(name, method="saliency") for name in ("randomize", "measure_sensitivity")} == {CHECKS}


def test_what_work_raises_reaches_who_waits_and_is_not_remembered():
    queue = Queue()

    def fail(tell: Callable[[float], None]) -> None:
        raise TimeoutError("its own")

    for _ in range(2):
        with pytest.raises(TimeoutError, match="its own"):
            queue.ask("key", fail, SHORT, None)
    assert queue.ask("key", lambda tell: 5, SHORT, None) == 5


def test_work_that_ends_as_the_waiting_does_is_an_answer(monkeypatch):
    queue = Queue()

    class Late(Future):
        def result(self, timeout: float | None = None) -> int:
            if not self.done():
                self.set_result(5)
                raise TimeoutError  # of the waiting
            return super().result(timeout)

    monkeypatch.setattr(SHORT, "submit", lambda *_: Late())
    assert queue.ask("key", lambda tell: 5, SHORT, None) == 5


def test_no_more_answers_are_kept_than_allowed(monkeypatch):
    monkeypatch.setattr(inference, "KEPT", 2)
    queue = Queue()
    for key in ("a", "b", "a", "c"):
        queue.ask(key, lambda tell: 1, SHORT, None)
    assert list(queue.answers) == ["a", "c"]


def test_a_visitor_leaves_the_checks_and_the_next_prediction_comes_at_once(tiny_results, monkeypatch):
    """As reported: it took 51.7 s, since the checks went on for nobody."""
    from core.explain import score

    passes, forward = [], score.Score.forward

    def forward_slowly(self: score.Score, *inputs):
        passes.append(1)
        time.sleep(0.05)
        return forward(self, *inputs)

    monkeypatch.setattr(results, "RESULTS", tiny_results)
    monkeypatch.setattr(score.Score, "forward", forward_slowly)
    run = results.load_run(tiny_results / "imagenet-96-seed1")
    image = np.full((32, 32, 3), 90, np.uint8)
    inference.predict_image(run, image + 1)  # the models are loaded
    question = inference.Question(run, "fusion", image, 3)
    begun = threading.Event()

    def leave(share: float) -> None:
        if passes:
            begun.set()
            raise Left

    monkeypatch.setattr(inference, "wait_for", lambda key, compute, lane, text: inference.open_queue().ask(key, compute, lane, leave))
    with pytest.raises(Left):
        question.ask("randomize", method="integrated_gradients")  # hundreds of passes
    monkeypatch.undo()
    monkeypatch.setattr(results, "RESULTS", tiny_results)
    assert begun.is_set()
    start = time.perf_counter()
    logits = inference.predict_image(run, image)
    assert list(logits) and time.perf_counter() - start < SOON
    assert CHECKS.submit(len, passes).result(SOON) < 20  # the lane is free, and little was computed in vain
