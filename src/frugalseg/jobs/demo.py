"""The whole main job on made-up data, in a few minutes: proof that an installation works."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from frugalseg.data.channels import read_channels
from frugalseg.data.check import check, render
from frugalseg.data.manifest import read_manifest, test_labels
from frugalseg.data.phantom import write_phantom
from frugalseg.data.readers import read_label
from frugalseg.data.threshold import Pair, Threshold, threshold_baseline
from frugalseg.errors import UserError
from frugalseg.evaluation import render as render_scores
from frugalseg.jobs.evaluate import EvaluationResult, evaluate
from frugalseg.jobs.predict import predict
from frugalseg.jobs.show import bar, say
from frugalseg.jobs.train import train

MINUTES = 2.4
STRUCTURE = "whole_tumour"
# Small crops, and patches side by side: many steps in little time. 4 targets are fewer than the default would
# accept. Mild augmentation, because strong augmentation pays off only in runs that are longer than this one.
SMALL = (
    "crop=[32,32,32]",
    "auxiliary.cpc.patch=[16,16,16]",
    "auxiliary.cpc.stride=[16,16,16]",
    "sampling.unlabelled=1",
    "augment=published",
    "training.learning_rate=2e-3",
    "inference.flips=true",
)


def demo(out: Path, minutes: float = MINUTES, overwrite: bool = False, seed: int = 0) -> EvaluationResult | int:
    """Make a phantom data set of 30 volumes with 6 labels and 8 for testing; check, train, predict, evaluate.

    Args:
        out: Folder for everything; must be new unless `overwrite`.
        minutes: Length of training.
        overwrite: Replace what an earlier demo left in `out`.
        seed: Seed of data and training.

    Raises:
        UserError: `out` is not empty and was not made by a demo.
    """
    mark = out / "made-by-frugalseg-demo"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not overwrite or not mark.exists():
            raise UserError("exists and is not empty; choose another --out (or --overwrite an earlier demo)", out)
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    mark.touch()
    started = time.monotonic()
    data = out / "data"
    with bar("making phantoms", 38) as advance:
        write_phantom(data, cases=30, labelled=6, test=8, seed=seed, progress=advance)
    print(render(check(data)))
    overrides = [*SMALL, f"training.minutes={minutes}"]
    trained = train(data, out / "run", "sscpcseg", 6, seed, overrides=overrides, store=out / "store")
    if trained.signal is not None:
        return trained.signal
    predict(out / "run", [data], out / "predictions")
    result = evaluate(out / "predictions", data, out / "evaluation")
    print(render_scores(result.summary))
    threshold = baseline(data)
    dice = result.summary.structures[STRUCTURE].statistics["dice"]
    assert dice is not None
    print(
        f"\nWhole tumour, Dice over 8 made-up test cases: {dice.mean:.3f}; the best threshold of one channel "
        f"({threshold.channel} {threshold.direction} {threshold.threshold:.2f} standard deviations, chosen on the "
        f"6 labelled cases) gets {threshold.dice:.3f}."
    )
    say(f"demo finished in {(time.monotonic() - started) / 60:.1f} min; everything is in {out}")
    return result


def baseline(data: Path) -> Threshold:
    """Return the best single-channel threshold of the labelled cases, scored on the test cases."""
    manifest = read_manifest(data)
    truth = test_labels(data)

    def pairs(known: bool) -> Iterator[Pair]:
        for case in manifest.labelled if known else manifest.test:
            label = case.label or truth[case.name]
            yield (
                read_channels(case.images, manifest.channels, "the data set has")[1],
                read_label(label, manifest.scheme.allowed)[1].astype("uint8"),
            )

    return threshold_baseline(pairs(True), pairs(False))
