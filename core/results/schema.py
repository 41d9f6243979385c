"""What the files hold: every table's columns with their types, and run.json's fields. results/README.md says what they mean.

A table is read if it says the same in another way: as nullable, unsigned or dictionary types, with its index as pandas's, with
columns that nobody asked for. Everything else is refused in a line that names the file, the column and what it should be.
"""

import json
import math
from pathlib import Path
from typing import Any, get_args, get_type_hints

import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute, csv, parquet

from core.config import BASELINES, CLASSES, MODELS, Recipe, UserError
from core.results.files import LARGEST_TABLE, MissingFile, read_text, say_why, write_whole

INTEGER, NUMBER, TEXT, BYTES = pa.int64(), pa.float64(), pa.string(), pa.binary()
WORDS = {INTEGER: "whole numbers", NUMBER: "numbers", pa.float32(): "numbers", pa.float16(): "numbers", TEXT: "text", BYTES: "bytes"}
LOGITS = tuple(f"logit_{i}" for i in range(len(CLASSES)))
COMPONENTS = tuple(f"pc_{i}" for i in range(50))

TABLES: dict[str, dict[str, pa.DataType]] = {
    "history.csv": {
        **{"epoch": INTEGER, "phase": TEXT},
        **dict.fromkeys(("lr_head", "lr_backbone", "train_loss", "train_accuracy", "val_loss", "val_accuracy"), NUMBER),
        **dict.fromkeys(("images_per_second", "time_seconds"), NUMBER),
        "image_size": INTEGER,
    },
    "predictions.parquet": {"split": TEXT, "index": INTEGER, "label": INTEGER, **dict.fromkeys(LOGITS, pa.float32())},
    "embedding.parquet": {"index": INTEGER, "x": pa.float32(), "y": pa.float32()},
    "features.parquet": {"index": INTEGER, **dict.fromkeys(COMPONENTS, pa.float16())},
    "robustness.csv": {"corruption": TEXT, "severity": INTEGER, "images": INTEGER, "accuracy": NUMBER, "right": TEXT},
    "epoch_correct.csv": {"epoch": INTEGER, "split": TEXT, "images": INTEGER, "accuracy": NUMBER, "correct": TEXT},
    "epoch_predicted.csv": {"epoch": INTEGER, "split": TEXT, "images": INTEGER, "predicted": TEXT},
    "test_images.parquet": {"index": INTEGER, "label": INTEGER, "image": BYTES},
    "human_votes.parquet": dict.fromkeys(("index", *CLASSES), INTEGER),
    "label_errors.parquet": dict.fromkeys(
        ("index", "given", "guessed", "votes_given", "votes_guessed", "votes_both", "votes_neither"), INTEGER
    ),
    "near_duplicates.parquet": {"index": INTEGER, "train_index": INTEGER, "similarity": NUMBER, "kind": TEXT},
}
OPTIONAL_COLUMNS = {"image_size", *COMPONENTS[1:]}
HISTORY_COLUMNS = tuple(name for name in TABLES["history.csv"] if name not in OPTIONAL_COLUMNS)
LABEL_ERROR_COLUMNS = tuple(TABLES["label_errors.parquet"])


# --- tables ----------------------------------------------------------------------------------------------------------


def write_table(path: Path, frame: pd.DataFrame, kind: str | None = None) -> None:
    """Write a frame with the columns and types of the table `kind` (by default the file's own name), whole. Raises UserError.

    Bytes of floats are sorted by place (byte stream split), which compresses logits by another third.
    """
    columns = {name: of for name, of in TABLES[kind or path.name].items() if name in frame or name not in OPTIONAL_COLUMNS}
    table = pa.table({name: pa.array(frame[name], of) for name, of in columns.items()})
    if path.suffix == ".csv":  # pandas writes the shortest digits that come back as the same number
        write_whole(path, lambda aside: table.to_pandas().to_csv(aside, index=False, encoding="utf-8", lineterminator="\n"))
    else:
        floats = [name for name, of in columns.items() if pa.types.is_floating(of)]
        others = [name for name in columns if name not in floats]  # a dictionary of values pays there alone
        how = {"compression": "zstd", "use_dictionary": others, "use_byte_stream_split": floats}
        write_whole(path, lambda aside: parquet.write_table(table, aside, **how))


def read_table(path: Path, repair: str, kind: str | None = None) -> pd.DataFrame:
    """Read a csv or parquet file with the columns of the table `kind` (by default the file's own name), in its types.

    `repair` is the command that makes the file anew. Raises MissingFile, UserError.
    """
    columns = TABLES[kind or path.name]
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise ValueError("it is too large to be such a table")
        table = _read_csv(path) if path.suffix == ".csv" else _read_parquet(path, columns)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError, pa.ArrowException) as error:
        kind_of_error = MissingFile if isinstance(error, FileNotFoundError) else UserError
        raise kind_of_error(f"{path} cannot be read ({say_why(error)}): run {repair}") from None
    missing = [name for name in columns if name not in table.column_names and name not in OPTIONAL_COLUMNS]
    if missing:
        raise UserError(f"{path} lacks column {', '.join(missing)}: run {repair}")
    arrays = {}
    for name, of in columns.items():
        if name in table.column_names:
            try:
                arrays[name] = _convert(table, name, of, path.suffix == ".csv")
            except (ValueError, NotImplementedError, pa.ArrowException) as error:
                raise UserError(f"{path}: column {name} holds {say_why(error)}: it should hold {WORDS[of]}: run {repair}") from None
    return pa.table(arrays).to_pandas()


def _read_csv(path: Path) -> pa.Table:
    """All columns as text."""
    with path.open("rb") as file:
        names = csv.open_csv(file, csv.ReadOptions(use_threads=False)).schema.names
    texts = csv.ConvertOptions(column_types=dict.fromkeys(names, TEXT))
    return csv.read_csv(path, csv.ReadOptions(use_threads=False), convert_options=texts)


def _read_parquet(path: Path, columns: dict[str, pa.DataType]) -> pa.Table:
    """The wanted columns of those that are there, if they unpack to what such a table may hold."""
    with parquet.ParquetFile(path) as file:
        footer = file.metadata  # a small file can unpack to any size
        unpacked = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
        if max(unpacked, 100 * footer.num_rows) > LARGEST_TABLE:
            raise ValueError("it unpacks to more than such a table holds")
        table = file.read([name for name in file.schema_arrow.names if name in columns], use_threads=False)
        for index in (file.schema_arrow.pandas_metadata or {}).get("index_columns", ()):
            if isinstance(index, dict) and index.get("name") in columns:  # pandas writes an index 0, 1, 2 … as these words alone
                values = range(index["start"], index["stop"], index["step"])
                if len(values) == footer.num_rows and index["name"] not in table.column_names:
                    table = table.append_column(index["name"], pa.array(values, INTEGER))
        return table


def _convert(table: pa.Table, name: str, wanted: pa.DataType, parse: bool) -> pa.Array:
    """A column in the wanted type, out of text where `parse` says so. Raises ValueError with what it holds instead."""
    if table.column_names.count(name) > 1:
        raise ValueError("two columns of this name")
    column = table[name].combine_chunks()
    found, types = column.type, pa.types
    if types.is_dictionary(found):
        found = found.value_type
    text = types.is_string(found) or types.is_large_string(found) or types.is_string_view(found)
    number = types.is_integer(found) or types.is_floating(found) or types.is_decimal(found)
    if types.is_integer(wanted):
        fits = types.is_integer(found) or (text and parse)
    elif types.is_floating(wanted):
        fits = number or (text and parse)
    elif wanted == TEXT:
        fits = text
    else:
        fits = types.is_binary(found) or types.is_large_binary(found) or types.is_binary_view(found) or types.is_fixed_size_binary(found)
    if not fits:
        raise ValueError(str(found))
    if column.null_count or (parse and compute.any(compute.equal(column, "")).as_py()):
        raise ValueError("empty values")
    converted = column.cast(wanted, safe=types.is_integer(wanted))
    if types.is_floating(wanted) and not np.isfinite(converted.to_numpy(zero_copy_only=False)).all():
        raise ValueError("values that are not finite")
    return converted


# --- run.json --------------------------------------------------------------------------------------------------------

MOST = 2**63 - 1  # that a table holds
WHOLE = {"type": "integer", "minimum": 0, "maximum": MOST, "description": "a whole number, 0 or more"}
POSITIVE = {"type": "integer", "minimum": 1, "maximum": MOST, "description": "a whole number, 1 or more"}
EPOCHS = {"type": "integer", "minimum": 0, "maximum": 10_000, "description": "a whole number, 0 to 10,000"}
SOME_TEXT = {"type": "string", "description": "text"}
TEXT_OR_NULL = {"type": ["string", "null"], "description": "text or null"}
JSON_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string", type(None): "null"}
NAMES_OF_TYPES = {"integer": "a whole number", "number": "a number, 0 to 1e9", "boolean": "true or false", "string": "text", "null": "null"}


def _describe_setting(kind: Any) -> dict[str, Any]:
    """The JSON schema of one of Recipe's type hints."""
    if any(getattr(one, "__origin__", None) is tuple for one in (kind, *get_args(kind))):
        return {"type": ["array", "null"], "items": POSITIVE, "description": "a list of whole numbers or null"}
    types = [JSON_TYPES[one] for one in get_args(kind) or (kind,)]
    limits = {"minimum": 0, "maximum": 10**9} if "number" in types else {}
    return {"type": types, **limits, "description": " or ".join(NAMES_OF_TYPES[one] for one in types)}


RECIPE_LIMITS = {
    **{"frozen_epochs": EPOCHS, "finetune_epochs": EPOCHS, "batch_size": POSITIVE, "crop_padding": WHOLE},
    "hidden": {"type": "integer", "minimum": 1, "maximum": 2**16, "description": "a whole number, 1 to 65,536"},
    "dropout": {"type": "number", "minimum": 0, "maximum": 1, "description": "a number, 0 to 1"},
    "image_size": {"type": "integer", "minimum": 8, "maximum": 1024, "description": "a whole number, 8 to 1024"},
    "images_per_split": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST, "description": "a whole number, 1 or more, or null"},
}
LIBRARIES = {"type": "object", "description": "an object with a text a library", "additionalProperties": SOME_TEXT}
COSTS = {
    "type": "object",
    "description": "an object with parameters, macs and latency_ms, where they are known",
    "properties": {
        **{"parameters": WHOLE, "macs": WHOLE},
        **{"precision": SOME_TEXT, "code_commit": SOME_TEXT, "libraries": LIBRARIES, "device": SOME_TEXT, "processes": POSITIVE},
        "latency_ms": {"type": "number", "minimum": 0, "maximum": 10**9, "description": "a number, 0 to 1e9"},
    },
}
START = {
    "type": "object",
    "description": "an object with name, file and sha256",
    "properties": {"name": SOME_TEXT, "file": TEXT_OR_NULL, "sha256": TEXT_OR_NULL},
    "required": ["name"],
}
UNKNOWN = {"name": "unknown", "file": None, "sha256": None}  # start weights that a record does not tell
RUN = {
    "type": "object",
    "description": "an object",
    "properties": {
        "recipe": {
            "type": "object",
            "description": "an object with the fields of Recipe",
            "properties": {name: _describe_setting(kind) for name, kind in get_type_hints(Recipe).items()} | RECIPE_LIMITS,
        },
        "seed": WHOLE,
        "start_weights": {"type": "object", "description": "an object with an entry a backbone", "additionalProperties": START},
        "precision": SOME_TEXT,
        "data_md5": {"type": "object", "description": "an object with a text a file", "additionalProperties": SOME_TEXT},
        "code_commit": SOME_TEXT,
        "libraries": LIBRARIES,
        "device": SOME_TEXT,
        "processes": POSITIVE,
        "models": {
            "type": "object",
            "description": "an object with an entry a model",
            "minProperties": 1,
            "additionalProperties": COSTS,
        },
        "note": SOME_TEXT,
    },
}
RUN["required"] = [name for name in RUN["properties"] if name != "note"]
RUN_KEYS = tuple(RUN["required"])
Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(  # whose integers may have a point: 3.0
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def read_record(path: Path, repair: str) -> dict[str, Any]:
    """Read run.json and check every field; start weights that it does not tell are "unknown". Raises MissingFile, UserError."""

    def parse_number(word: str) -> float:
        if not math.isfinite(number := float(word)):
            raise ValueError(f"{word} is no number that can be used")
        return number

    try:
        record = json.loads(read_text(path), parse_constant=parse_number, parse_float=parse_number)
        if not isinstance(record, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError, RecursionError) as error:
        kind_of_error = MissingFile if isinstance(error, FileNotFoundError) else UserError
        raise kind_of_error(f"{path} cannot be read ({say_why(error)}): run {repair}") from None
    missing = [name for name in RUN_KEYS if name not in record]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: run {repair}")
    fault = jsonschema.exceptions.best_match(Validator(RUN).iter_errors(record))
    if fault is not None:
        raise UserError(f"{path}: {_say_fault(fault)}: run {repair}")
    unknown = [name for name in record["models"] if name not in MODELS]
    if unknown:
        raise UserError(f"{path}: models has {unknown[0]!r}: it should have one or more of {', '.join(MODELS)}: run {repair}")
    try:
        Recipe.from_dict(record["recipe"])
    except UserError as error:
        raise UserError(f"{path}: {error}: run {repair}") from None
    starts = dict.fromkeys(BASELINES, UNKNOWN) | record["start_weights"]  # an outsider may know nothing of them
    record["start_weights"] = {name: UNKNOWN | start for name, start in starts.items()}
    return record


def _say_fault(fault: jsonschema.ValidationError) -> str:
    """Which field is not as it should be, and how it should be."""
    place = ".".join(map(str, fault.absolute_path))
    if fault.validator == "required":
        lacking = [name for name in fault.validator_value if name not in fault.instance]
        return f"{place} lacks {', '.join(lacking)}: it should be {fault.schema['description']}"
    found = json.dumps(fault.instance, ensure_ascii=False)
    return f"{place} is {found if len(found) <= 60 else f'{found[:60]} …'}: it should be {fault.schema['description']}"
