"""The results folder: the only package that knows its paths and columns. No torch here.

Writers put every file, model folder and run aside and rename it when whole. Readers check what they read and raise a
UserError that names the file, what is wrong and the command that repairs it. results/README.md explains every column.

files: how anything is written and read. schema: columns, types and fields. run: the record, and which folders are runs.
staging: from a staged folder to the run. foreign: logits of others. tables, arrays: what lies in a model's folder. images: what is
known of the images.
"""
# ruff: noqa: F401 (names for others)

from core.results.arrays import Attributions, find_weights, load_attributions, write_attributions, write_weights
from core.results.files import (
    LARGEST,
    LARGEST_TABLE,
    RESULTS,
    MissingFile,
    command,
    one_at_a_time,
    quote,
    read_text,
    say_why,
    show_path,
    write_text,
    write_whole,
)
from core.results.foreign import import_run
from core.results.images import (
    HUMANS_COMMAND,
    TestImages,
    load_human_votes,
    load_label_errors,
    load_near_duplicates,
    load_test_images,
    write_human_votes,
    write_label_errors,
    write_near_duplicates,
    write_test_images,
)
from core.results.run import (
    SPLIT_SIZES,
    Run,
    check_same_run,
    find_control,
    find_loss_test,
    find_related,
    find_retrainings,
    find_runs,
    find_seeds,
    fingerprint,
    load_run,
    name_run,
    rebuild_command,
    refuse_imported,
    refuse_without_weights,
    split_size,
    start_option,
    starts_at_random,
    write_run,
)
from core.results.schema import COMPONENTS, HISTORY_COLUMNS, LABEL_ERROR_COLUMNS, LOGITS
from core.results.staging import PROVENANCE, name_staged, publish, still_of
from core.results.tables import (
    Predictions,
    Rows,
    load_embedding,
    load_epoch_correct,
    load_epoch_predicted,
    load_features,
    load_history,
    load_logits,
    load_predictions,
    load_robustness,
    stamp_predictions,
    write_embedding,
    write_epoch_correct,
    write_epoch_predicted,
    write_features,
    write_history,
    write_predictions,
    write_robustness,
)
