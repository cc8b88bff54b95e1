"""A folder of predictions: predictions.json says what made it; until then predictions.unfinished.json does.

So predicting that was stopped goes on where it was, and a folder that got more images has only these predicted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from frugalseg.data.imagetypes import written_suffix
from frugalseg.errors import DataError, UserError
from frugalseg.files import read_json_object, write_json
from frugalseg.formats import describing, require_version
from frugalseg.inference.inputs import PredictionInput

FORMAT_VERSION = 1
RECORD = "predictions.json"
UNFINISHED = "predictions.unfinished.json"
LOST = "not_registered"  # case to the labelled cases that had no vote in its prediction
MADE_BY = (
    "frugalseg",
    "method",
    "model_sha256",
    "members",
    "temperature",
    "largest",
    "flips",
    "registration",
    "probabilities",
    "scheme",
)
"""What two predictions have to have in common to stand in one folder. Where the model lies is not among it."""


def read_record(folder: Path, name: str = RECORD) -> dict[str, Any]:
    """Return what predictions.json in `folder` holds; an empty object if there is none.

    Raises:
        DataError: It is malformed or of a newer format.
    """
    path = folder / name
    if not path.exists():
        return {}
    facts = read_json_object(path)
    require_version(facts, FORMAT_VERSION, path)
    with describing("predictions", path):
        for case, files in dict(facts.get("cases", {})).items():
            if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
                raise TypeError(f"cases: the files of {case!r} must be a list of paths")
        if not isinstance(facts.get("run", ""), str):
            raise TypeError("run must be text, the run's folder")
        for file, stamp in dict(facts.get("stamps", {})).items():
            if not isinstance(stamp, list) or not all(isinstance(number, int) for number in stamp):
                raise TypeError(f"stamps: that of {file!r} must be a size and a time")
    return facts


def members(facts: Mapping[str, Any]) -> list[Any]:
    """Return what is noted of each of several models whose mean the predictions are; nothing of a single one."""
    found = facts.get("members")
    return found if isinstance(found, list) else []


def made_by(facts: Mapping[str, Any], cases: Collection[str]) -> dict[str, Any] | None:
    """Return which model, or models, made the predictions of these cases; None if that is not noted of all.

    Names no folder: it stands in summary.json, which people pass on.

    Args:
        facts: What predictions.json holds.
        cases: Their names.
    """
    models = [one.get("model_sha256") if isinstance(one, Mapping) else None for one in members(facts) or [facts]]
    if not all(isinstance(model, str) for model in models) or not set(cases) <= set(facts.get("cases", {})):
        return None
    return {"models": models, **{key: facts.get(key) for key in ("method", "flips", "registration")}}


def unfinished(
    out: Path, facts: Mapping[str, Any], inputs: Sequence[PredictionInput], words: Sequence[str], resume: bool
) -> tuple[PredictionInput, ...]:
    """Return the inputs whose predictions are not there yet. Nothing is written.

    An image that changed since (by size or time of its file) is predicted again.

    Args:
        out: Folder of the predictions.
        facts: What predictions.json will hold.
        inputs: All cases.
        words: A word for each structure whose probability is written, too.
        resume: Take what lies in `out` for done, if the same model made it.

    Raises:
        UserError: `out` is not empty, or holds what something else made.
        DataError: Its record is damaged.
    """
    filled = out.exists() and (not out.is_dir() or any(out.iterdir()))
    earlier = _earlier(out) if out.is_dir() else {}
    if filled and not resume:
        hint = "; --resume goes on with it" if (out / UNFINISHED).exists() else ""
        raise UserError(f"exists and is not empty; choose another --out{hint}", out)
    if filled and not earlier:
        raise UserError("holds no predictions to go on with; choose another --out", out)
    for key in MADE_BY if earlier else ():
        if key == "probabilities" and key not in earlier:
            continue  # an older version did not say; whether they are there is seen
        if _made_by(earlier, key) != _made_by(facts, key):
            raise UserError(f"was begun with another {key}; repeat its command, or choose another --out", out)
    stamps = _stamps(inputs)
    known, files = dict(earlier.get("stamps", {})), dict(earlier.get("cases", {}))
    left = []
    for item in inputs:
        own = [str(file.resolve()) for file in item.files]
        same = files.get(item.name) == own and all(known.get(file, stamps[file]) == stamps[file] for file in own)
        if not same or not all(path.exists() for path in written_files(out, item, words)):
            left.append(item)
    return tuple(left)


def begin(
    out: Path,
    facts: Mapping[str, Any],
    inputs: Sequence[PredictionInput],
    left: Sequence[PredictionInput],
    words: Sequence[str],
) -> dict[str, Any]:
    """Note what is about to be made, and of which files; return what predictions.json will hold.

    Cases that lie there and are not among the inputs stay in it.

    Raises:
        DataError: It cannot be written.
    """
    for path in (path for item in left for path in written_files(out, item, words)):
        path.unlink(missing_ok=True)  # of a file that changed: the note is about the file as it is now
    earlier = _earlier(out)
    asked, anew = {item.name for item in inputs}, {item.name for item in left}
    others = {
        name: files
        for name, files in dict(earlier.get("cases", {})).items()
        if name not in asked and (out / f"{name}{written_suffix(Path(files[0]))}").exists()
    }
    stamps = dict(earlier.get("stamps", {}))
    kept = {file: stamps[file] for files in others.values() for file in files if file in stamps}
    noted = {**facts, "cases": {**others, **facts["cases"]}, "stamps": {**kept, **_stamps(inputs)}}
    lost = {name: cases for name, cases in dict(earlier.get(LOST, {})).items() if name not in anew}
    if lost:
        noted[LOST] = lost
    write_json(out / UNFINISHED, noted)
    return noted


def note_lost(out: Path, noted: dict[str, Any], name: str, cases: Sequence[str]) -> None:
    """Note at once that labelled cases had no vote in a prediction."""
    noted.setdefault(LOST, {})[name] = list(cases)
    write_json(out / UNFINISHED, noted)


def end(out: Path, noted: Mapping[str, Any]) -> None:
    """Write predictions.json: all of it is there."""
    write_json(out / RECORD, noted)
    (out / UNFINISHED).unlink(missing_ok=True)


def written_files(out: Path, item: PredictionInput, words: Sequence[str]) -> list[Path]:
    """Return the files of a case: its label map, and a probability map for each word."""
    suffix = written_suffix(item.files[0])
    maps = [out / f"{item.name}_probability_{word}{suffix}" for word in words]
    return [out / f"{item.name}{suffix}", *maps]


def _earlier(out: Path) -> dict[str, Any]:
    """Return what is noted of predictions that lie there; empty if nothing is."""
    return read_record(out, UNFINISHED) or read_record(out)


def _made_by(facts: Mapping[str, Any], key: str) -> Any:
    value = facts.get(key)
    return [member.get("model_sha256") for member in value] if key == "members" and value else value


def _stamps(inputs: Sequence[PredictionInput]) -> dict[str, list[int]]:
    return {str(file.resolve()): _stamp(file) for item in inputs for file in item.files}


def _stamp(file: Path) -> list[int]:
    """Return a file's size and time of change (ns)."""
    try:
        found = file.stat()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", file) from error
    return [found.st_size, found.st_mtime_ns]
