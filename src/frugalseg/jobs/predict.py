"""Predict: from images to label maps on the images' own grids."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from frugalseg import __version__
from frugalseg.data.preprocess import Prepared
from frugalseg.data.readers import write_label, write_map
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.source import DataSource
from frugalseg.errors import DataError
from frugalseg.inference.components import keep_largest
from frugalseg.inference.inputs import PredictionInput, find_inputs, read_input
from frugalseg.inference.restore import Place
from frugalseg.inference.window import class_indices
from frugalseg.jobs.ahead import WriteBehind, read_ahead
from frugalseg.jobs.ensemble import Ensemble, open_ensemble
from frugalseg.jobs.predict_needs import say_needs
from frugalseg.jobs.predicted import FORMAT_VERSION, begin, end, note_lost, unfinished, written_files
from frugalseg.jobs.show import bar, say


def predict(
    run: Path | Sequence[Path],
    paths: Sequence[Path] = (),
    out: Path = Path("predictions"),
    channels: Mapping[str, Path] | None = None,
    case: str | None = None,
    flips: bool | None = None,
    probabilities: bool = False,
    checkpoint: str | None = None,
    register: bool = True,
    data: Path | DataSource | None = None,
    store: Path | None = None,
    resume: bool = False,
) -> list[Path]:
    """Predict cases and write one label map each, named like the case, plus predictions.json.

    Args:
        run: Folder of a training run or of folds, or several, whose probabilities are averaged.
        paths: Files, folders of files, or data sets (with dataset.json, or a CSV), whose test list is taken.
        out: Folder for the predictions; must not exist or be empty without `resume`.
        channels: Files of one case by channel name, instead of `paths`.
        case: Name of that case.
        flips: Average over mirrored copies; by default as the run's configuration says.
        probabilities: Also write each structure's probability, as CASE_probability_STRUCTURE.
        checkpoint: "last" or "best".
        register: Whether labelled cases are registered onto the images and vote, where the run gives them a share.
        data: The data set that the run was trained on, if it is not where it was.
        store: Where prepared cases are kept.
        resume: Keep what the same model already made in `out`, and make what is missing.

    Returns:
        The label maps' paths.

    Raises:
        UserError: Wrong input; names the file.
    """
    runs = [run] if isinstance(run, Path) else list(run)
    source = None if data is None else DataSource.of(data)
    model = open_ensemble(runs, checkpoint, register, source, store)
    may_miss = all(member.preparation.zero_missing for member in model.members)
    inputs = find_inputs(paths, channels or {}, model.channels, case, may_miss)
    flipped = model.config.inference.flips if flips is None else flips
    facts = record(model, inputs, flipped, probabilities)
    words = file_words(model.scheme.structures) if probabilities else []
    left = unfinished(out, facts, inputs, words, resume)
    if len(left) < len(inputs):
        say(f"{len(inputs) - len(left)} of {len(inputs)} cases are there already")
    if len(left) > 1:  # a damaged file is told now, not after hours of predicting those before it
        with bar("looking at images", len(left)) as advance:
            for item in left:
                _readable(model, item)
                advance()
    for item in left:
        if item.missing:
            names = ", ".join(model.channels[channel] for channel in item.missing)
            say(f"{item.name}: no channel {names}; predicted without it, as the model was trained to")
    ahead = bool(left) and say_needs(model, left, out, maps=len(words))
    noted: dict[str, Any] | None = None
    started = time.monotonic()
    with bar("predicting", len(left)) as advance, WriteBehind() as behind:
        for item, prepared in read_ahead(left, model.prepare, ahead):
            if noted is None:  # not before: an image that cannot be read leaves nothing behind
                noted = begin(out, facts, inputs, left, words)
            if (other := model.resampled(prepared)) is not None:
                say(f"{item.name}: {other}")
            predict_case(model, item, prepared, out, flipped, probabilities, behind)
            if lost := model.lost:
                say(f"{item.name}: {', '.join(lost)} cannot be registered onto it, and had no vote")
                note_lost(out, noted, item.name, lost)
            advance()
    end(out, noted or begin(out, facts, inputs, left, words))
    seconds = time.monotonic() - started
    say(f"predicted {len(left)} cases in {seconds:.1f} s; in {out}")
    return [written_files(out, item, ())[0] for item in inputs]


def _readable(model: Ensemble, item: PredictionInput) -> None:
    """Read a case and hold its voxels to numbers.

    Raises:
        DataError: It cannot be predicted.
    """
    _, image = read_input(item, model.channels)
    if unusable := int(image.size - np.isfinite(image).sum()):
        raise DataError(f"{unusable} of {image.size} voxels are NaN or infinite; mend the image", item.files[0])


class Predictor(Protocol):
    """Who labels a prepared case: an ensemble, or what stands in its place."""

    @property
    def scheme(self) -> LabelScheme:
        """What the labels mean."""

    @property
    def largest(self) -> tuple[str, ...]:
        """Structures of which only the largest part is kept."""

    def blocks(self, prepared: Sequence[Prepared], flips: bool) -> Iterator[tuple[Place, Tensor]]:
        """Yield probabilities (R x K, x, y, z) on the cut grid in blocks with their places."""

    def calibrated(self, block: Tensor) -> Tensor:
        """Return the probabilities that are to be written."""


def predict_case(
    model: Predictor,
    item: PredictionInput,
    prepared: Sequence[Prepared],
    out: Path,
    flips: bool,
    maps: bool,
    behind: WriteBehind,
    watch: Callable[[Place, Tensor], None] | None = None,
) -> Path:
    """Predict one case and write its label map behind, and with `maps` each structure's probability at once.

    Args:
        model: Who predicts.
        item: The case.
        prepared: It, prepared for each member.
        out: Folder of the label maps.
        flips: Whether to average over mirrored copies.
        maps: Whether to write probabilities.
        behind: Who writes the label map.
        watch: Is shown each block of probabilities (R x K, x, y, z) with its place on the cut grid.
    """
    scheme, placement = model.scheme, prepared[0].placement
    small = np.uint8 if max(scheme.predicted) < 256 else np.int16
    label = np.zeros(placement.cut_grid.shape, small)
    names = file_words(scheme.structures) if maps else []
    path, *maps_at = written_files(out, item, names)
    with ExitStack() as held:
        volumes = [held.enter_context(on_disk(out, label.shape)) for _ in names]
        for rows, block in model.blocks(prepared, flips):
            label[rows] = scheme.decode(class_indices(block, scheme.groups, scheme.classes).numpy())
            if watch is not None:
                watch(rows, block)
            if not names:
                continue
            split = model.calibrated(block).reshape(scheme.groups, scheme.classes, *block.shape[1:])
            # One softmax with several structures, or one structure in each of several.
            chosen = split[0, 1:] if scheme.exclusive else split[:, 1]
            for volume, values in zip(volumes, chosen):
                volume[rows] = values.numpy()
        label = keep_largest(label, scheme, model.largest)
        behind.run(lambda: write_label(path, placement.restore(label), item.files[0]))
        for place, volume in zip(maps_at, volumes, strict=True):
            write_map(place, placement.restore(volume), item.files[0])
    return path


@contextmanager
def on_disk(folder: Path, shape: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """Open an array of float32 that lies in a nameless file in `folder`, gone afterwards.

    Raises:
        DataError: There is no room for it.
    """
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(tempfile.TemporaryFile(dir=folder, prefix=".tmp-"))
            if hasattr(os, "posix_fallocate"):  # a page of a map that finds no room later would kill the process
                os.posix_fallocate(file.fileno(), 0, 4 * math.prod(shape))
            volume = np.memmap(file, np.float32, "w+", shape=shape)
        except OSError as error:
            raise DataError(f"cannot be written to ({error.strerror or error}); make room", folder) from error
        yield volume


def record(model: Ensemble, inputs: Sequence[PredictionInput], flips: bool, maps: bool = False) -> dict[str, Any]:
    """Return what predictions.json holds: which model, or models, made which case from which files."""
    first = model.members[0]
    facts: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "frugalseg": __version__,
        "run": str(first.folder.resolve().parent),
        "method": first.config.method,
        "checkpoint": first.folder.name,
        "step": first.step,
        "model_sha256": first.sha256,
        "flips": flips,
        "registration": first.config.inference.registration if any(model.voters) else 0.0,
        "probabilities": maps,
        "transductive": any(member.transductive for member in model.members),
        "scheme": model.scheme.to_json(),
        "cases": {item.name: [str(file.resolve()) for file in item.files] for item in inputs},
    }
    if len(model.members) > 1:
        facts["members"] = [
            {
                "run": str(member.folder.resolve().parent),
                "checkpoint": member.folder.name,
                "step": member.step,
                "model_sha256": member.sha256,
            }
            for member in model.members
        ]
        facts |= {"temperature": model.temperature, "largest": list(model.largest)}
    return facts


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
