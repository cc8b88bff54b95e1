"""Predict: from images to label maps on the images' own grids."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frugalseg import __version__
from frugalseg.data.preprocess import Prepared, preprocess
from frugalseg.data.readers import write_label, write_map
from frugalseg.errors import DataError, UserError
from frugalseg.files import read_json_object, write_json
from frugalseg.formats import describing, require_version
from frugalseg.inference.inputs import PredictionInput, find_inputs, read_input
from frugalseg.inference.window import class_indices, sliding_window
from frugalseg.jobs.model import Model, load_model
from frugalseg.jobs.show import bar, say

FORMAT_VERSION = 1
RECORD = "predictions.json"


def predict(
    run: Path,
    paths: Sequence[Path] = (),
    out: Path = Path("predictions"),
    channels: Mapping[str, Path] | None = None,
    case: str | None = None,
    flips: bool | None = None,
    probabilities: bool = False,
    checkpoint: str | None = None,
) -> list[Path]:
    """Predict cases and write one label map each, named like the case, plus predictions.json.

    Args:
        run: Folder of a training run.
        paths: Files, folders of files, or data sets (whose test list is taken).
        out: Folder for the predictions; must not exist or be empty.
        channels: Files of one case by channel name, instead of `paths`.
        case: Name of that case.
        flips: Average over mirrored copies; by default as the run's configuration says.
        probabilities: Also write each structure's probability, as CASE_probability_STRUCTURE.nii.gz.
        checkpoint: "last" or "best".

    Returns:
        The label maps' paths.

    Raises:
        UserError: Wrong input; names the file.
    """
    model = load_model(run, checkpoint)
    inputs = find_inputs(paths, channels or {}, model.channels, case)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("exists and is not empty; choose another --out", out)
    if len(inputs) > 1:  # a damaged file is told now, not after hours of predicting those before it
        with bar("looking at images", len(inputs)) as advance:
            for item in inputs:
                _readable(model, item)
                advance()
    flipped = model.config.inference.flips if flips is None else flips
    written = []
    started = time.monotonic()
    with bar("predicting", len(inputs)) as advance:
        for item in inputs:
            written.append(predict_case(model, item, out, flipped, probabilities))
            advance()
    write_json(out / RECORD, record(model, run, inputs, flipped))
    seconds = time.monotonic() - started
    say(f"predicted {len(written)} cases in {seconds:.1f} s; in {out}")
    return written


def _readable(model: Model, item: PredictionInput) -> None:
    """Read a case and hold its voxels to numbers.

    Raises:
        DataError: It cannot be predicted.
    """
    _, image = read_input(item, model.channels)
    if unusable := int(image.size - np.isfinite(image).sum()):
        raise DataError(f"{unusable} of {image.size} voxels are NaN or infinite; mend the image", item.files[0])


def predict_case(model: Model, item: PredictionInput, out: Path, flips: bool, maps: bool) -> Path:
    """Predict one case and write it."""
    grid, image = read_input(item, model.channels)
    try:
        prepared: Prepared = preprocess(grid, image, model.config.preprocess)
    except ValueError as error:
        raise DataError(f"{error}; mend the image", item.files[0]) from error
    blended = sliding_window(
        torch.from_numpy(prepared.image),
        model.plan.crop,
        lambda windows: model.predict(windows, flips),
        prepared.background,
        model.config.inference.overlap,
        model.config.inference.batch,
    )
    scheme = model.scheme
    indices = class_indices(blended, scheme.groups, scheme.classes).numpy()
    path = out / f"{item.name}.nii.gz"
    write_label(path, prepared.placement.restore(scheme.decode(indices)), item.files[0])
    if maps:
        split = blended.reshape(scheme.groups, scheme.classes, *blended.shape[1:])
        # One softmax with several structures, or one structure in each of several.
        chosen = split[0, 1:] if scheme.exclusive else split[:, 1]
        for name, values in zip(file_words(scheme.structures), chosen, strict=True):
            whole = prepared.placement.restore(np.asarray(values.numpy(), np.float32))
            write_map(out / f"{item.name}_probability_{name}.nii.gz", whole, item.files[0])
    return path


def read_record(folder: Path) -> dict[str, Any]:
    """Return what predictions.json in `folder` holds; an empty object if there is none.

    Raises:
        DataError: It is malformed or of a newer format.
    """
    path = folder / RECORD
    if not path.exists():
        return {}
    facts = read_json_object(path)
    require_version(facts, FORMAT_VERSION, path)
    with describing("predictions", path):
        for name, files in dict(facts.get("cases", {})).items():
            if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
                raise TypeError(f"cases: the files of {name!r} must be a list of paths")
        if not isinstance(facts.get("run", ""), str):
            raise TypeError("run must be text, the run's folder")
    return facts


def record(model: Model, run: Path, inputs: Sequence[PredictionInput], flips: bool) -> dict[str, Any]:
    """Return what predictions.json holds: which model made which case from which files."""
    return {
        "format_version": FORMAT_VERSION,
        "frugalseg": __version__,
        "run": str(run.resolve()),
        "method": model.config.method,
        "checkpoint": model.folder.name,
        "step": model.step,
        "model_sha256": model.sha256,
        "flips": flips,
        "transductive": model.transductive,
        "scheme": model.scheme.to_json(),
        "cases": {item.name: [str(file.resolve()) for file in item.files] for item in inputs},
    }


def file_words(names: Sequence[str]) -> list[str]:
    """Return a word for each name that may stand in a file's name, no two alike even where case does not count."""
    words: list[str] = []
    for name in names:
        safe = word = "".join(letter if letter.isalnum() else "-" for letter in name)
        number = 1
        while word.lower() in (other.lower() for other in words):
            number += 1
            word = f"{safe}-{number}"
        words.append(word)
    return words
