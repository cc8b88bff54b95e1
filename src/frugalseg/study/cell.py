"""One cell of a study: trained, predicted, evaluated, as a person would with three commands, and recorded.

Everything is a plain value, so that the same function runs in this process or on another machine. CELL/cell.json is
written last. It carries the key of what was asked for and the hash of CELL/cases.csv: with these two files alone,
without checkpoint or predictions, a later study takes the cell for finished.
"""

from __future__ import annotations

import shutil
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg import __version__
from frugalseg.config import load_config
from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_file, read_text, write_json, write_text
from frugalseg.formats import read_sealed, seal
from frugalseg.jobs.show import logged
from frugalseg.study.spent import Clock

CELL_FORMAT = 1
CELL, CASES, LOG = "cell.json", "cases.csv", "log.txt"
PREDICTED_FOR = "predicted.key"


@dataclass(frozen=True)
class Task:
    """What to do. `key` is the hash of everything that the result depends on; `keep` what stays of the run.

    `earlier` is the key that a cell of before it held what labels and channels mean has.
    """

    folder: Path
    key: str
    data: Path
    store: Path | None
    recipe: str | Path
    labels: int
    seed: int
    overrides: tuple[str, ...]
    keep: bool
    earlier: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: `error` is None, or one line that says why it failed; `new` whether it was run now.

    `seconds` are those of all its sittings.
    """

    folder: Path
    error: str | None
    seconds: float
    dice: float | None
    new: bool


def finished(task: Task) -> Outcome | None:
    """Return the outcome of a cell that is finished and intact, else None.

    Raises:
        DataError: It was made with other settings, data, or another version; what its file says is damaged.
    """
    path = task.folder / CELL
    if not path.exists():
        return None
    facts = read_sealed(path, CELL_FORMAT)
    if facts["error"] is not None:
        return None
    if facts["key"] not in (task.key, task.earlier):
        raise DataError(
            f"was made with other settings, data or version ({facts['frugalseg']}) than this study's; choose "
            "another --out, or remove the cell's folder to run it again",
            task.folder,
        )
    if not (task.folder / CASES).exists() or hash_file(task.folder / CASES) != facts["cases_sha256"]:
        raise DataError(f"{CASES} is not as it was written; remove the cell's folder to run it again", task.folder)
    return Outcome(task.folder, None, float(facts["seconds"]), facts["dice"], False)


def run_cell(task: Task) -> Outcome:
    """Finish a cell: go on where it was left, and record how it ended. An error is recorded, not raised.

    Raises:
        DataError: As `finished`, or the record cannot be written.
    """
    done = finished(task)
    if done is not None:
        return done
    from frugalseg.jobs.machine import forget_peak

    clock = Clock(task.folder)
    forget_peak()  # of the cell before, in the same process
    try:
        with logged(task.folder / LOG):
            facts = _run(task, clock)
        error = None
    except UserError as wrong:
        facts, error = {}, str(wrong)
    except Exception as failure:
        line = traceback.extract_tb(failure.__traceback__)[-1]
        facts, error = {}, f"{type(failure).__name__}: {failure} ({Path(line.filename).name}:{line.lineno})"
    except BaseException:  # stopped: neither finished nor failed
        clock.keep()
        raise
    seconds = round(clock.seconds, 1)
    record: dict[str, Any] = {
        "format_version": CELL_FORMAT,
        "frugalseg": __version__,
        "key": task.key,
        "labels": task.labels,
        "seed": task.seed,
        "error": error,
        "dice": None,
        "seconds": seconds,
        **facts,
    }
    write_json(task.folder / CELL, seal(record))
    if error is not None:
        clock.keep()  # tried again, it goes on from what was saved
        return Outcome(task.folder, error, seconds, None, True)
    clock.drop()
    if not task.keep:
        for name in ("run", "predictions"):
            shutil.rmtree(task.folder / name, ignore_errors=True)
        (task.folder / PREDICTED_FOR).unlink(missing_ok=True)
    return Outcome(task.folder, None, seconds, record["dice"], True)


def _run(task: Task, clock: Clock) -> dict[str, Any]:
    from frugalseg.jobs.evaluate import evaluate
    from frugalseg.jobs.predict import predict
    from frugalseg.jobs.predicted import RECORD
    from frugalseg.jobs.record import PRETRAIN
    from frugalseg.jobs.train import train

    config = load_config(task.recipe, [*task.overrides, f"training.seed={task.seed}"])
    if not config.trained:
        return _registered(task, clock)
    run, predictions, scores = (task.folder / name for name in ("run", "predictions", "scores"))
    named: dict[str, Any] = {"recipe": task.recipe} if isinstance(task.recipe, Path) else {"method": task.recipe}
    result = train(
        task.data,
        run,
        labels=task.labels,
        seed=task.seed,
        overrides=task.overrides,
        resume=True,
        store=task.store,
        **named,
    )
    if result.signal is not None:  # told to stop: the cell is not finished, and has not failed
        raise Interrupted(result.signal)
    clock.keep()  # a signal during the rest ends the process at once
    _leave_own(task, predictions)
    if not (predictions / RECORD).exists():
        predict(run, [task.data], predictions, store=task.store)
    shutil.rmtree(scores, ignore_errors=True)
    found = evaluate(predictions, task.data, scores)
    shutil.copyfile(scores / CASES, task.folder / CASES)
    overall = found.summary.overall["dice"]
    record = read_sealed(run / "run.json", 1)
    spent = list(record["spent"])
    if (run / PRETRAIN / "run.json").exists():  # its time and memory are the method's, too
        spent += read_sealed(run / PRETRAIN / "run.json", 1)["spent"]
    return {
        "cases_sha256": hash_file(task.folder / CASES),
        "dice": None if overall is None else overall.mean,
        "steps": result.steps,
        "peak_bytes": max((int(part["peak_bytes"]) for part in spent), default=0),
        "training_seconds": sum(float(part["seconds"]) for part in spent),
        "machine": record["machine"],
    }


def _registered(task: Task, clock: Clock) -> dict[str, Any]:
    from frugalseg.jobs.evaluate import evaluate
    from frugalseg.jobs.machine import describe, peak_memory_bytes
    from frugalseg.jobs.predicted import RECORD
    from frugalseg.jobs.register import register

    predictions, scores = (task.folder / name for name in ("predictions", "scores"))
    _leave_own(task, predictions)
    if not (predictions / RECORD).exists():
        register(task.data, predictions, task.labels, task.seed, None, task.recipe, task.overrides, task.store)
    seconds = clock.seconds
    clock.keep()
    shutil.rmtree(scores, ignore_errors=True)
    found = evaluate(predictions, task.data, scores)
    shutil.copyfile(scores / CASES, task.folder / CASES)
    overall = found.summary.overall["dice"]
    return {
        "cases_sha256": hash_file(task.folder / CASES),
        "dice": None if overall is None else overall.mean,
        "steps": 0,
        "peak_bytes": peak_memory_bytes(),
        "training_seconds": seconds,
        "machine": describe("cpu"),
    }


def _leave_own(task: Task, predictions: Path) -> None:
    """Leave predictions only if they are whole and of what is asked for now: an image may have been mended."""
    from frugalseg.jobs.predicted import RECORD

    mark = task.folder / PREDICTED_FOR
    own = mark.exists() and read_text(mark) == task.key
    if not own or not (predictions / RECORD).exists():  # the record is written last
        shutil.rmtree(predictions, ignore_errors=True)
    write_text(mark, task.key)


class Interrupted(BaseException):
    """A signal asked the study to stop; the cell under way is saved and goes on with the next start."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"signal {number}")
