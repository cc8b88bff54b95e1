"""How a run ends: what it took stands in its record and its report, and it says where its model is."""

from __future__ import annotations

from pathlib import Path

from frugalseg.errors import DataError
from frugalseg.formats import RUN_FORMAT, read_sealed
from frugalseg.jobs.machine import peak_memory_bytes
from frugalseg.jobs.record import RECORD, update_record
from frugalseg.jobs.show import say
from frugalseg.jobs.validate import RULE, Best
from frugalseg.report import write_report
from frugalseg.training.seal import BEST, LAST


def is_closed(folder: Path, step: int) -> bool:
    """Whether the record and the report tell that the run is finished; a kill may have come between."""
    spent = read_sealed(folder / RECORD, RUN_FORMAT)["spent"]
    return bool(spent) and spent[-1]["to"] == step and (folder / "report.html").exists()


def require_not_lost(folder: Path, step: int) -> None:
    """Refuse to begin anew, without a word, where steps were taken of which nothing is left.

    Raises:
        DataError: They were, and the run is at its first step.
    """
    spent = read_sealed(folder / RECORD, RUN_FORMAT)["spent"]
    if step == 0 and spent and spent[-1]["to"] > 0:
        raise DataError(
            f"took {spent[-1]['to']} steps, and no checkpoint of them is left; put RUN/last back, or start the run "
            "anew in another folder",
            folder,
        )


def close_sitting(folder: Path, first: int, step: int, seconds: float, processes: int, best: Best | None) -> None:
    """Add what a sitting took to the record, and write the report.

    Args:
        folder: The run.
        first: Step it began with.
        step: Steps taken in all.
        seconds: How long it took.
        processes: How many took part.
        best: The best checkpoint so far; None where none is chosen.
    """
    spent = list(read_sealed(folder / RECORD, RUN_FORMAT)["spent"])
    spent.append(
        {
            "from": first,
            "to": step,
            "seconds": round(seconds, 1),
            "peak_bytes": peak_memory_bytes(),
            "processes": processes,
        }
    )
    update_record(folder, {"spent": spent, "best": None if best is None else best.to_json()})
    write_report(folder / "report.html", folder, None)


def say_stopped(signal: int, step: int, steps: int) -> None:
    """Say that a signal stopped the run, and how it goes on."""
    say(f"stopped by signal {signal} after step {step} of {steps}; --resume goes on")


def say_finished(folder: Path, step: int, seconds: float, best: Best | None, cases: int) -> None:
    """Say what the run took and where its model is; `cases` helped to choose the best checkpoint, if any."""
    result = folder / LAST
    if best is not None:
        result = folder / BEST
        say(f"best: step {best.step}, Dice {best.dice:.3f} on {cases} cases ({RULE})")
    say(
        f"trained {step} steps in {seconds / 60:.1f} min, peak memory "
        f"{peak_memory_bytes() / 2**30:.2f} GiB; model in {result}"
    )
