"""From a staged folder to the run that readers see."""

import json
import os
import shutil
from pathlib import Path

from core.config import UserError
from core.results.run import check_same_run, load_run, write_run


def publish(staged: Path, run: Path) -> None:
    """Rename a staged run into place; into a run that exists, its models one by one, then its run.json. Raises UserError."""
    try:
        if not run.exists():
            os.rename(staged, run)
            return
        record = json.loads((staged / "run.json").read_text())
        try:
            existing = load_run(run).record
        except UserError:  # damaged: this is its repair
            existing = record
        check_same_run(run / "run.json", existing, record)
        shutil.rmtree(run / "ensemble", ignore_errors=True)  # of the models that go
        for model in record["models"]:
            if (run / model).exists():
                os.rename(run / model, staged / f".{model}.old")
            os.rename(staged / model, run / model)
        record["models"] = existing["models"] | record["models"]
        record |= {"note": existing["note"]} if "note" in existing else {}
        write_run(run / "run.json", record)
        shutil.rmtree(staged)
    except OSError as error:
        raise UserError(f"{run} could not be written ({error}); the whole result lies in {staged}") from None
