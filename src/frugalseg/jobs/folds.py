"""Train with folds: several models inside the labelled cases, each scored on the cases that it was not shown.

For a user without a test set: the scores say how good a model with nearly as many labels is, and all labels are in
some member of the ensemble. A case that is held out trains no model of its fold, not even as an unlabelled one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg.config import Config, load_config
from frugalseg.data.budget import Split, hold_out
from frugalseg.data.folds import make_folds
from frugalseg.data.manifest import DataSource
from frugalseg.errors import DataError, UserError
from frugalseg.files import read_json_object, write_json
from frugalseg.formats import require_seal, require_version, seal
from frugalseg.jobs.budget import budget_of
from frugalseg.jobs.out_of_fold import OutOfFold, score_folds
from frugalseg.jobs.record import read_plan, settings_hash
from frugalseg.jobs.show import say
from frugalseg.jobs.train import holds_something, train

FOLDS = "folds.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class FoldsResult:
    """Where the folds are; their scores, or the signal that stopped one of them."""

    folder: Path
    scores: OutOfFold | None
    signal: int | None = None


def train_folds(
    data: Path | DataSource,
    out: Path,
    count: int,
    method: str = "frugal",
    labels: int | None = None,
    seed: int = 0,
    label_seed: int | None = None,
    labelled: Path | None = None,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    store: Path | None = None,
    transductive: bool = False,
) -> FoldsResult:
    """Train a model for each fold in OUT/fold-0, OUT/fold-1, ..., score them, and write OUT/ensemble.json.

    The arguments are those of `train`; a length in minutes is that of each fold. Crop, width and length of the
    first fold are those of the others, so that their probabilities can be averaged.

    Args:
        data: The data set.
        out: Folder of the folds; must not exist or be empty, unless `resume`.
        count: How many folds; with 5 labelled patients or fewer there is one for each.
        method: Name of a shipped recipe.
        labels: Size of the budget.
        seed: Seed of weights and samples, of every fold.
        label_seed: Seed of the choice of labelled cases; by default `seed`.
        labelled: File that names the labelled cases.
        recipe: A recipe file instead of a shipped one.
        overrides: Settings.
        resume: Go on in `out`: folds that are finished are not trained again.
        store: Where prepared cases are kept.
        transductive: Use the test cases' images as unlabelled ones.

    Raises:
        UserError: Wrong input; nothing that existed is changed.
        TrainingError: As in `train`; the folds before it are kept.
    """
    config = load_config(recipe or method, [f"training.seed={seed}", *overrides])
    if config.training.devices * config.training.nodes > 1:
        raise UserError("folds are trained by one process each; leave --devices and --nodes out", "--folds")
    used = out.exists() and (not out.is_dir() or holds_something(out))
    if used and not (resume and (out / FOLDS).is_file()):
        raise UserError("exists and is not empty; choose another --out, or --resume to go on with its folds", out)
    order_seed = config.training.seed if label_seed is None else label_seed
    manifest, split = budget_of(data, labels, order_seed, labelled, transductive=transductive)
    folds = make_folds(split.labelled, {case.name: case.group for case in manifest.training}, count)
    for fold in folds:  # what one of them could not do is told now, and not after the training of those before
        try:
            hold_out(manifest, split, fold)
        except UserError as error:
            raise UserError(f"with {', '.join(fold)} held out {error.what}", "--folds") from error
    if used:
        require_same(out, config, split, folds)
    else:
        write_json(out / FOLDS, described(config, split, folds))
    pinned: list[str] = []
    for number, fold in enumerate(folds):
        say(f"fold {number + 1} of {len(folds)}: {', '.join(fold)} held out")
        run = fold_folder(out, number)
        result = train(
            data, run, method, labels, seed, label_seed, labelled, recipe, [*overrides, *pinned], True, store,
            transductive=transductive, held_out=fold,
        )  # fmt: skip
        if result.signal is not None:
            return FoldsResult(out, None, result.signal)
        if number == 0:
            pinned = pins(run, config)
    return FoldsResult(out, score_folds(out, manifest, folds, store))


def fold_folder(out: Path, number: int) -> Path:
    """Return the run folder of a fold."""
    return out / f"fold-{number}"


def described(config: Config, split: Split, folds: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return what folds.json holds."""
    facts = {"format_version": FORMAT_VERSION, "config_sha256": settings_hash(config), "split": split.to_json()}
    return seal({**facts, "folds": [list(fold) for fold in folds]})


def require_same(out: Path, config: Config, split: Split, folds: Sequence[Sequence[str]]) -> None:
    """Refuse to go on with other folds than those that were begun.

    Raises:
        UserError: Settings, labels or folds differ.
        DataError: folds.json is damaged.
    """
    path = out / FOLDS
    facts = read_json_object(path)
    require_version(facts, FORMAT_VERSION, path)
    require_seal(facts, path)
    if facts != described(config, split, folds):
        raise UserError(
            "the folds in this folder were begun with other settings or labels; repeat their command", out
        )


def pins(run: Path, config: Config) -> list[str]:
    """Return the settings by which the other folds are like the first one."""
    plan = read_plan(run)
    if plan.steps < 1:
        raise DataError("has no length; start the folds anew in another folder", run)
    found = [f"crop=[{','.join(map(str, plan.crop))}]", f"network.width={plan.width}"]
    if config.training.steps is None and config.training.epochs is None:  # measured, to fit the minutes
        found += ["training.minutes=null", f"training.steps={plan.steps}"]
    return found
