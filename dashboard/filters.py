"""A filter over the test images as a value: its conditions, its counts, its words, and its spelling in the URL.

Pure functions of a run's predictions (data.load_predictions). What not every run holds, such as how often an image was forgotten
(dashboard.traits), is asked for by name through `trait`, and only where a condition needs it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd

from core.config import CLASSES
from dashboard import theme
from dashboard.selection import AGREEMENTS, OUTCOMES, SORTS, pick_subject

Trait = Callable[[str], np.ndarray]  # name -> one value an image. Raises UserError where the run has none
STATES = ("correct", "wrong")  # what a model can be, beside naming a class
DUPLICATES = ("any", "near-duplicates only", "without near-duplicates")  # of training images
SEEDS = ("any", "wrong in every seed", "wrong in some seeds only", "correct in every seed")
TRAIT_SORTS = {  # order of a gallery -> trait and direction
    "wrong in most seeds first": ("seeds", False),
    "learned last first": ("learned", False),
    "most often forgotten first": ("forgotten", False),
}
FULL = (0.0, 1.0)


@dataclass(frozen=True)
class Filter:
    """Which test images, and in which order. Every condition must hold; an empty one always does.

    `says`: "resnet18:cat", "fusion:wrong". `slice`: "brightness:0", an attribute of core.slices and its bin. `learned`: the first
    and the last epoch in which the model may first have been correct. `tags`: of the visitor's own. `beside`: a model whose images
    are shown next to these.
    """

    model: str = "fusion"
    outcome: str = "model wrong"
    true: tuple[str, ...] = ()
    predicted: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    agreement: str = "any"
    confidence: tuple[float, float] = FULL
    people: tuple[float, float] = FULL
    doubted: bool = False
    duplicates: str = "any"
    seeds: str = "any"
    learned: tuple[int, ...] = ()
    forgotten: int = 0
    slice: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    sort: str = "most confident first"
    beside: str = ""

    @property
    def query(self) -> dict[str, list[str]]:
        """The fields that differ from the defaults, as the URL's parameters; `says` is one a model: says_fusion=wrong."""
        found = {}
        for field in fields(self):
            if (value := getattr(self, field.name)) == field.default:
                continue
            if field.name == "says":
                found |= {f"says_{model}": [what] for model, what in (one.split(":") for one in value)}
            else:
                found[field.name] = [spell(one) for one in (value if isinstance(value, tuple) else (value,))]
        return found

    def conditions(self, predictions: pd.DataFrame, trait: Trait, tagged: Mapping[int, Collection[str]] = {}) -> dict[str, np.ndarray]:
        """Field -> which rows of the predictions fit it. Only those that leave something out."""
        model = self.model
        kept: dict[str, np.ndarray] = {}
        if self.outcome != "everything":
            kept["outcome"] = np.asarray(OUTCOMES[self.outcome](predictions, model))
        if self.true:
            kept["true"] = predictions["label"].isin([CLASSES.index(name) for name in self.true]).to_numpy()
        if self.predicted:
            kept["predicted"] = predictions[f"{model}_predicted"].isin([CLASSES.index(name) for name in self.predicted]).to_numpy()
        for one in self.says:
            kept[f"says {one.split(':')[0]}"] = said(predictions, *one.split(":"))
        if self.agreement != "any":
            kept["agreement"] = (predictions["agree"] == (self.agreement == "models agree")).to_numpy()
        if self.confidence != FULL:
            kept["confidence"] = predictions[f"{model}_confidence"].between(*self.confidence).to_numpy()
        if self.people != FULL:
            kept["people"] = predictions["people"].between(*self.people).to_numpy()
        if self.doubted:
            kept["doubted"] = predictions["relabelled"].to_numpy()
        if self.duplicates != "any":
            kept["duplicates"] = (predictions["duplicated"] == (self.duplicates == DUPLICATES[1])).to_numpy()
        if self.seeds != "any":
            kept["seeds"] = fits_seeds(self.seeds, trait("seeds"))
        if self.learned:
            kept["learned"] = (trait("learned") >= self.learned[0]) & (trait("learned") <= self.learned[-1])
        if self.forgotten:
            kept["forgotten"] = trait("forgotten") >= self.forgotten
        for one in self.slice:
            attribute, number = one.rsplit(":", 1)
            kept[f"slice {attribute}"] = trait(attribute) == int(number)
        if self.tags:
            marked = [index for index, tags in tagged.items() if set(self.tags) & set(tags)]
            kept["tags"] = predictions["index"].isin(marked).to_numpy()
        return kept

    def arrange(self, predictions: pd.DataFrame, kept: np.ndarray, trait: Trait) -> pd.Index:
        """Labels of the rows of `predictions` where `kept`, in the filter's order."""
        if self.sort in TRAIT_SORTS:
            name, ascending = TRAIT_SORTS[self.sort]
            values = pd.Series(trait(name), predictions.index)
        else:
            column, ascending = SORTS[self.sort]
            values = predictions[column.format(self.model)]
        return values[kept].sort_values(ascending=ascending, kind="stable").index

    def name_parts(self, slice_names: Callable[[str], str], epochs: int) -> list[tuple[str, str, str]]:
        """What is filtered: field, value as in the URL, and words for both; an order is no part of it. `epochs`: of the run."""
        words = {
            "confidence": lambda: f"confidence {self.confidence[0]:g} to {self.confidence[1]:g}",
            "people": lambda: f"{self.people[0]:.0%} to {self.people[1]:.0%} of people agree",
            "doubted": lambda: "doubted labels only",
            "learned": lambda: say_learned(self.learned[0], self.learned[-1], epochs),
            "forgotten": lambda: f"forgotten at least {'once' if self.forgotten == 1 else f'{self.forgotten} times'}",
        }
        each = {"true": "true class {}", "predicted": "predicted {}", "tags": "tag {}"}
        parts = []
        for name, values in self.query.items():
            if name in words:
                parts.append((name, "", words[name]()))
            elif name not in ("model", "sort", "beside"):
                for value in values:
                    if name.startswith("says_"):
                        text = f"{theme.label(name.removeprefix('says_'))} {value if value in STATES else f'says {value}'}"
                    else:
                        text = slice_names(value) if name == "slice" else each.get(name, "{}").format(value)
                    parts.append((name, value, text))
        if self.outcome == "model wrong":
            parts.insert(0, ("outcome", "model wrong", f"{theme.label(self.model)} wrong"))
        return [part for part in parts if part[:2] != ("outcome", "everything")]

    def without(self, name: str, value: str) -> "Filter":
        """The filter with one of name_parts removed."""
        if name == "outcome":
            return replace(self, outcome="everything")
        if name.startswith("says_"):
            name, value = "says", f"{name.removeprefix('says_')}:{value}"
        kept = getattr(self, name)
        default = next(field.default for field in fields(self) if field.name == name)
        return replace(self, **{name: tuple(one for one in kept if one != value) if value and isinstance(kept, tuple) else default})

    @property
    def file_name(self) -> str:
        """The selection as part of a file's name: 'fusion_model-wrong_true-cat'."""
        parts = [
            self.model,
            *("-".join([name, *values]) for name, values in self.query.items() if name not in ("model", "sort", "beside", "outcome")),
        ]
        return spell_file("_".join([parts[0], self.outcome, *parts[1:]]))


def say_learned(first: int, last: int, epochs: int) -> str:
    """Which images were first predicted correctly after epoch `first` to `last`; the one after the last of `epochs` stands for never."""
    if first > epochs:
        return "never learned"
    return f"learned in epoch {' to '.join(map(str, dict.fromkeys((first, min(last, epochs)))))}" + ", or never" * (last > epochs)


def spell(value: bool | int | float | str) -> str:
    """One value as the URL has it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def spell_file(text: str) -> str:
    """Words as part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "_.-" else "-" for letter in text.lower())[:120]


def said(predictions: pd.DataFrame, model: str, what: str) -> np.ndarray:
    """Where a model is `what`: correct, wrong, or naming that class."""
    if what in STATES:
        return (predictions[f"{model}_correct"] == (what == "correct")).to_numpy()
    return (predictions[f"{model}_predicted"] == CLASSES.index(what)).to_numpy()


def fits_seeds(choice: str, share: np.ndarray) -> np.ndarray:
    """Which images fit one of SEEDS, from the share (N,) of seeds in which each is misclassified."""
    return {
        "any": np.ones(len(share), bool),
        "wrong in every seed": share == 1,
        "wrong in some seeds only": (share > 0) & (share < 1),
        "correct in every seed": share == 0,
    }[choice]


def all_but(conditions: dict[str, np.ndarray], n: int, *names: str) -> np.ndarray:
    """Which of `n` images fit all conditions but those named."""
    return np.logical_and.reduce([np.ones(n, bool), *(one for name, one in conditions.items() if name not in names)])


def count_classes(classes: np.ndarray, kept: np.ndarray) -> dict[str, int]:
    """Class name -> how many of the kept images have it, for classes (N,)."""
    return dict(zip(CLASSES, np.bincount(classes[kept], minlength=len(CLASSES)).tolist(), strict=True))


KEYS = {field.name for field in fields(Filter)} - {"says"} | {f"says_{model}" for model in theme.SHOWN_MODELS}  # of Filter.query


def read_query(query: Mapping[str, list[str]], models: list[str], attributes: Collection[str] = ()) -> Filter:
    """The filter that a URL's parameters spell; what they cannot mean is left at its default.

    Understands old addresses too, which spelt models as they are shown and said "right" for correct.
    """
    labels = {theme.label(model): model for model in models} | {model: model for model in models}
    default = Filter(model=pick_subject(models))
    one = {name: values[-1] for name, values in query.items() if values}
    outcome = one.get("outcome", "")
    outcome = outcome if outcome in OUTCOMES else outcome.replace("right", "correct")
    sorts = (*SORTS, *TRAIT_SORTS)
    says = {model: one.get(f"says_{model}") for model in models}
    return Filter(
        model=labels.get(one.get("model", ""), default.model),
        outcome=outcome if outcome in OUTCOMES else default.outcome,
        true=tuple(name for name in CLASSES if name in query.get("true", [])),
        predicted=tuple(name for name in CLASSES if name in query.get("predicted", [])),
        says=tuple(f"{model}:{what}" for model, what in says.items() if what in (*STATES, *CLASSES)),
        agreement=pick(one.get("agreement"), AGREEMENTS, default.agreement),
        confidence=read_range(query.get("confidence", []), FULL),
        people=read_range(query.get("people", []), FULL),
        doubted=one.get("doubted") == "true",
        duplicates=pick(one.get("duplicates"), DUPLICATES, default.duplicates),
        seeds=pick(one.get("seeds"), SEEDS, default.seeds),
        learned=tuple(int(value) for value in query.get("learned", []) if value.isdecimal() and len(value) < 5)[:2],
        forgotten=int(one["forgotten"]) if one.get("forgotten", "").isdecimal() and len(one["forgotten"]) < 5 else 0,
        slice=tuple(
            v for v in query.get("slice", []) if v.count(":") == 1 and v.split(":")[0] in attributes and v.split(":")[1].isdecimal()
        ),
        tags=tuple(query.get("tags", []))[:20],
        sort=pick(one.get("sort"), sorts, default.sort),
        beside=labels.get(one.get("beside", ""), ""),
    )


def pick(value: str | None, options: Collection[str], default: str) -> str:
    return value if value in options else default


def read_range(values: list[str], full: tuple[float, float]) -> tuple[float, float]:
    """Two numbers within `full`, in order; `full` for anything else."""
    try:
        low, high = (float(value) for value in values)
    except ValueError:
        return full
    return (low, high) if full[0] <= low <= high <= full[1] else full


def group_by_predicted(predictions: pd.DataFrame, chosen: pd.Index, model: str, size: int) -> tuple[pd.Index, dict[int, str]]:
    """`chosen` with the images of each predicted class together, the largest group first, and a heading above the first of each.

    A page of `size` images opens with a heading too.
    """
    predicted = predictions.loc[chosen, f"{model}_predicted"]
    counts = predicted.value_counts()
    order = predicted.map({label: place for place, label in enumerate(counts.index)}).sort_values(kind="stable").index
    headings, last = {}, None
    for place, row in enumerate(order):
        label = predicted[row]
        if label != last or place % size == 0:
            headings[int(predictions.at[row, "index"])] = f"called {CLASSES[label]}: {counts[label]:,}"
        last = label
    return order, headings


def tidy_table(run: str, predictions: pd.DataFrame, chosen: Filter, rows: pd.Index, tagged: Mapping[int, dict]) -> pd.DataFrame:
    """A row an image of the selection, in its order: names instead of numbers, of the chosen model alone, with the visitor's tags."""
    model, picked = chosen.model, predictions.loc[rows]
    names = np.array(CLASSES)
    own = [tagged.get(index, {"tags": [], "note": ""}) for index in picked["index"]]
    return pd.DataFrame(
        {
            "run": run,
            "model": theme.label(model),
            "test_image": picked["index"],
            "true_class": names[picked["label"]],
            "predicted_class": names[picked[f"{model}_predicted"]],
            "correct": picked[f"{model}_correct"],
            "confidence": picked[f"{model}_confidence"].round(4),
            "cross_entropy_nats": picked[f"{model}_loss"].round(4),
            "margin": picked[f"{model}_margin"].round(4),
            "share_of_people_who_agree": picked["people"].round(4),
            "label_doubted": picked["relabelled"],
            "near_duplicate_in_training": picked["duplicated"],
            "your_tags": ["; ".join(one["tags"]) for one in own],
            "your_note": [one["note"] for one in own],
        }
    )
