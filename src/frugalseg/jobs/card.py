"""A model card (Mitchell et al. 2019): what a model is, from which labels, how good, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugalseg import __version__
from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_file, read_json_object
from frugalseg.jobs.info import RunInfo, began_with, info, taught_by
from frugalseg.training.seal import BEST, LAST, WEIGHTS

SUMMARY = "summary.json"
VOTES = (
    "The labelled cases are registered onto each image and have a share of its prediction: `predict` needs the "
    "data set, which is not part of the model, or `--no-register`."
)
MEASURES = {"dice": ("Dice", 3), "hd95_mm": ("HD95, mm", 2), "surface_dice": ("surface Dice", 3)}


def card(run: Path, scores: Path | None = None) -> str:
    """Return a run's model card as Markdown.

    Args:
        run: The run's folder.
        scores: Folder of an evaluation of its predictions (`frugalseg evaluate --out`), for the figures.

    Raises:
        UserError: It is not a run, it is not finished, or the folder holds no evaluation, or one of another model.
        DataError: A record cannot be read.
    """
    found = info(run)
    if found.step < found.steps:
        raise UserError(
            f"is not finished ({found.step} of {found.steps} steps); a card tells of a finished model", run
        )
    plan = read_json_object(run / "plan.json")
    data = read_json_object(run / "run.json")["data"]
    lines = [
        f"# {found.method} on {data['name']}",
        "",
        "**Research use. Not a medical device; not to be used for diagnosis or treatment.**",
        "",
        *_model(found, plan, data),
        *_labels(found),
        *(_figures(scores, found) if scores is not None else _no_figures()),
        *_limits(found, plan, data),
    ]
    return "\n".join(lines) + "\n"


def _model(found: RunInfo, plan: dict[str, Any], data: dict[str, Any]) -> list[str]:
    size = " x ".join(map(str, plan["crop"]))
    machine = found.machine
    return [
        "## Model",
        "",
        f"- Method `{found.method}`, seed {found.seed}, {found.steps} steps, {machine.get('precision', '')}; "
        f"base width {plan['width']}, crop {size} voxels.",
        f"- Input: {', '.join(data['channels'])}, in this order.",
        f"- Result: {found.checkpoint_rule}.",
        *([f"- {VOTES}"] if found.votes else []),
        f"- Made with frugalseg {machine.get('frugalseg', __version__)} in {found.seconds / 60:.0f} minutes on "
        f"{_device(machine)}.",
        f"- Run again: the configuration stands in config.yaml, what was chosen from the data in plan.json; data "
        f"sha256 `{found.data_sha256}`.",
        "",
    ]


def _device(machine: Mapping[str, Any]) -> str:
    """Return what trained: the GPU by its name, or the processor."""
    device, processor = str(machine.get("device") or "cpu"), machine.get("processor")
    return str(processor or "an unknown processor") if device == "cpu" else device


def _labels(found: RunInfo) -> list[str]:
    return [
        "## Data and labels",
        "",
        f"- Labels read: **{found.labels_read}** ({found.label_rule}).",
        f"- Trained with their label: {', '.join(found.labelled)}.",
        f"- Chose the checkpoint: {', '.join(found.validation) or 'none'}.",
        f"- Trained without a label: {found.unlabelled} volumes"
        + (", the images of the test cases among them (transductive)." if found.transductive else "."),
        *([f"- Began with {began_with(found.initial)}."] if found.initial is not None else []),
        *([f"- Taught by {taught_by(found.teachers)}."] if found.teachers else []),
        "",
    ]


def _figures(scores: Path, found: RunInfo) -> list[str]:
    path = scores / SUMMARY
    if not path.is_file():
        raise UserError(f"holds no {SUMMARY}; expected a folder that `frugalseg evaluate --out` made", scores)
    summary = read_json_object(path)
    try:
        rows = [("all structures, mean", summary["overall"])]
        rows += [(name, part["statistics"]) for name, part in summary["structures"].items()]
        lines = [
            "## Figures",
            "",
            f"{summary['n_cases']} cases, {_seen(summary, found)}; mean (95 % interval over cases). "
            f"{_made(summary.get('predictions'), Path(found.run), scores)}",
            "",
            "| structure | " + " | ".join(title for title, _ in MEASURES.values()) + " |",
            "|---" * (len(MEASURES) + 1) + "|",
        ]
        for name, statistics in rows:
            cells = [_cell(statistics[measure], digits) for measure, (_, digits) in MEASURES.items()]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return [*lines, "", str(summary["rule"]), ""]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"is not a summary of `frugalseg evaluate` ({type(error).__name__}: {error})", path
        ) from error


def _made(predictions: dict[str, Any] | None, run: Path, scores: Path) -> str:
    """Say how the scored predictions were made.

    Raises:
        UserError: Another model made them.
    """
    if predictions is None:
        return "Nothing notes which model made the scored predictions."
    files = [run / name / WEIGHTS for name in (LAST, BEST)]
    own = {hash_file(file) for file in files if file.is_file()}
    models = list(predictions["models"])
    if not own & set(models):
        raise UserError(
            f"scores predictions of another model ({predictions['method']}, {models[0][:12]}); evaluate what this "
            "one predicts",
            scores,
        )
    ways = ["with others, of whose predictions they are the mean"] if len(models) > 1 else []
    ways += ["averaged over flipped copies"] if predictions["flips"] else []
    votes = predictions["registration"]
    ways += [f"registered labelled cases count {votes:.0%}" if votes else "without registered cases"]
    return f"This model predicted them: {', '.join(ways)}."


def _seen(summary: dict[str, Any], found: RunInfo) -> str:
    """Say whether the model knows the scored cases' labels."""
    seen = {str(score["case"]) for score in summary["cases"]} & {*found.labelled, *found.validation}
    before = found.initial is not None and found.initial.get("labels_read")
    also = " (labels that its first weights had read were not compared)" if before else ""
    return (f"**{len(seen)} of which it read the labels**" if seen else "none of which it read the label") + also


def _cell(statistics: dict[str, Any] | None, digits: int) -> str:
    if statistics is None:
        return "-"
    mean, low, high = (statistics[key] for key in ("mean", "low", "high"))
    return f"{mean:.{digits}f}" if low is None else f"{mean:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def _no_figures() -> list[str]:
    return [
        "## Figures",
        "",
        "None given: predict cases with known labels, `frugalseg evaluate` them, and add --scores.",
        "",
    ]


def _limits(found: RunInfo, plan: dict[str, Any], data: dict[str, Any]) -> list[str]:
    return [
        "## Limits",
        "",
        f"- It saw {found.labels_read} labels: scanners, protocols, ages and diseases that are not among them may "
        "fail without a warning. Look at every prediction.",
        "- An interval over cases says how the figures vary with the cases, not with the choice of labelled cases, "
        "which with few labels matters as much.",
        "- Images must have the channels above, in the same contrast, and about the training data's voxel sizes.",
        "",
        "## Licence of the data",
        "",
        f"{data.get('licence') or 'Not given in dataset.json'}; whoever passes the model on answers for it.",
    ]
