"""Register: the labels of a few cases laid onto test images, without training. The floor of every comparison."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frugalseg import __version__
from frugalseg.config import load_config
from frugalseg.data.prepare import prepare as prepare_cases
from frugalseg.data.preprocess import Prepared, preprocess
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.store import default_store, open_array
from frugalseg.errors import UserError
from frugalseg.files import hash_value
from frugalseg.inference.inputs import find_inputs, read_input
from frugalseg.inference.restore import Place, placed_blocks
from frugalseg.jobs.ahead import WriteBehind
from frugalseg.jobs.atlas import with_guesses
from frugalseg.jobs.budget import budget_of, manifest_of
from frugalseg.jobs.predict import file_words, predict_case
from frugalseg.jobs.predicted import FORMAT_VERSION, begin, end, unfinished, written_files
from frugalseg.jobs.prepare import chosen, workers_that_fit
from frugalseg.jobs.registrations import GUESSES, files_of
from frugalseg.jobs.show import bar, say
from frugalseg.semisup.registration import VOXELS, registration_version


@dataclass(frozen=True)
class Registered:
    """What stands in a model's place: probabilities that are there already."""

    scheme: LabelScheme
    found: Path
    largest: tuple[str, ...] = ()

    def blocks(self, prepared: Sequence[Prepared], flips: bool) -> Iterator[tuple[Place, Tensor]]:
        """Yield the probabilities (R x K, x, y, z) on the cut grid, in one block or in slabs."""
        shares = torch.from_numpy(np.asarray(open_array(self.found)[:], np.float32) / 255)
        yield from placed_blocks(prepared[0].placement, [shares], 0)

    def calibrated(self, block: Tensor) -> Tensor:
        """Return the probabilities as they are."""
        return block


def register(
    data: Path,
    out: Path,
    labels: int | None = None,
    seed: int = 0,
    labelled: Path | None = None,
    recipe: str | Path = "registration",
    overrides: Sequence[str] = (),
    store: Path | None = None,
    probabilities: bool = False,
    resume: bool = False,
) -> list[Path]:
    """Label a data set's test images from a few labelled cases; write label maps and predictions.json.

    Args:
        data: The data set, with test images.
        out: Folder for the label maps; must not exist or be empty without `resume`.
        labels: How many labels are read; by default all.
        seed: Seed of the choice of labelled cases.
        labelled: File that names the labelled cases, one a line, instead of a number.
        recipe: Name of a recipe, or a file, whose `atlas` and `preprocess` are taken.
        overrides: Settings such as "atlas.registration.start=affine".
        store: Where prepared cases and registrations are kept.
        probabilities: Also write each structure's probability.
        resume: Keep what was made in `out` in the same way, and make what is missing.

    Raises:
        UserError: There are no test images, `out` is not empty, or the images are not alike enough.
        DataError: A file is missing or cannot be read.
    """
    config = load_config(recipe, overrides)
    settings = config.atlas
    if settings is None:
        raise UserError(f"{config.method!r} registers nothing; set atlas", "atlas")
    manifest, split = budget_of(data, labels, seed, labelled, transductive=True)
    tests = {case.name for case in manifest.test}
    if not tests:
        raise UserError("lists no test images to label", data)
    root = store or default_store()
    # As for a network: what is done to images is chosen from the training cases alone.
    preparation, _ = chosen(manifest_of(data), split.readable, config.preprocess)
    inputs = find_inputs([data], {}, manifest.channels, None, preparation.zero_missing)
    by_name = {case.name: case for case in manifest.training}
    wanted = [by_name[name] for name in (*split.labelled, *(n for n in split.unlabelled if n in tests))]
    begun = time.monotonic()
    with bar("preparing", len(wanted)) as advance:
        workers = workers_that_fit(wanted, root, None)
        cases = prepare_cases(manifest, wanted, split.readable, root, preparation, workers, lambda _: advance())
    asked = {
        "settings": {
            **settings.model_dump(mode="json"),
            "registration": settings.registration.content(settings.registration.voxels != VOXELS),
        },
        "preparation": preparation.key(),
        "labelled": [[case.name, *files_of(case)] for case in cases[: len(split.labelled)]],
        "registration": registration_version(),
        "votes": GUESSES,
    }
    facts = {
        "format_version": FORMAT_VERSION,
        "frugalseg": __version__,
        "method": "registration",
        "labelled": list(split.labelled),
        "labels_read": len(split.readable),
        "model_sha256": hash_value(asked),
        "flips": False,
        "probabilities": probabilities,
        "transductive": False,
        "scheme": manifest.scheme.to_json(),
        "cases": {item.name: [str(file.resolve()) for file in item.files] for item in inputs},
    }
    words = file_words(manifest.scheme.structures) if probabilities else []
    left = unfinished(out, facts, inputs, words, resume)
    found = with_guesses(cases, len(split.labelled), manifest.scheme, settings, root)
    guesses = {case.name: case.guess for case in found}
    facts = begin(out, facts, inputs, left, words)
    with bar("writing", len(left)) as advance, WriteBehind() as behind:
        for item in left:
            grid, image = read_input(item, manifest.channels)
            guess = guesses[item.name]
            assert guess is not None
            model = Registered(manifest.scheme, guess)
            prepared = (preprocess(grid, image, preparation, item.missing),)
            predict_case(model, item, prepared, out, False, probabilities, behind)
            advance()
    end(out, facts)
    seconds = time.monotonic() - begun
    say(f"registered {len(split.labelled)} labelled cases onto {len(left)} images in {seconds:.1f} s; in {out}")
    return [written_files(out, item, ())[0] for item in inputs]
