"""What the claims rest on: a run's predictions, read once, and the runs beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from core import metrics, results
from core.config import BASELINES
from core.results import Run

T = TypeVar("T")


@dataclass(eq=False)
class Evidence:
    """A run's predictions on the test and validation images."""

    run: Run
    runs: Sequence[Run]  # all at hand
    index: np.ndarray  # (N,) of the test images
    labels: np.ndarray
    logits: dict[str, np.ndarray]  # (N, 10) a model, the ensemble included
    val_labels: np.ndarray
    val_logits: dict[str, np.ndarray]
    _kept: dict[Callable[["Evidence"], Any], Any] = field(default_factory=dict)

    @classmethod
    def load(cls, run: Run, runs: Sequence[Run] = ()) -> "Evidence":
        """Raises UserError."""
        _, val_labels, val_logits = results.load_logits(run, "val")
        index, labels, logits = results.load_logits(run)
        return cls(run, runs, index, labels, logits, val_labels, val_logits)

    def correct(self, model: str) -> np.ndarray:
        """(N,) bool: is the test image predicted correctly?"""
        return self.logits[model].argmax(axis=1) == self.labels

    def val_correct(self, model: str) -> np.ndarray:
        """(V,) bool, of the validation images."""
        return self.val_logits[model].argmax(axis=1) == self.val_labels

    @cached_property
    def better(self) -> str:
        """The better baseline: on validation, since the test images are there to report, not to choose."""
        return max(BASELINES, key=lambda model: self.val_correct(model).mean())

    @property
    def other(self) -> str:
        return next(model for model in BASELINES if model != self.better)

    @cached_property
    def seeds(self) -> list[Run]:
        """This run and the whole ones that differ from it by the seed alone. Raises UserError."""
        return results.find_seeds(self.run, [run for run in self.runs if run.whole])

    @cached_property
    def retrainings(self) -> list[Run]:
        """Runs with other seeds of the two baselines. Raises UserError."""
        return results.find_retrainings(self.run, self.runs)

    def once(self, compute: Callable[["Evidence"], T]) -> T:
        """compute(self), the first time it is asked for: what several claims share."""
        if compute not in self._kept:
            self._kept[compute] = compute(self)
        kept: T = self._kept[compute]
        return kept

    def predict(self, model: str, split: str = "test", file: str = "predictions") -> results.Predictions:
        """Another file with the columns of predictions.parquet. Raises UserError."""
        return results.load_predictions(self.run, model, split, name=file)

    def confident(self, model: str, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Confidence (N,) at a temperature, and correctness (N,): what the calibration metrics take."""
        return metrics.softmax(self.logits[model] / temperature).max(axis=1), self.correct(model)
