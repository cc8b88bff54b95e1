"""Evaluate: predictions against truth, case by case, with the rules printed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.imagetypes import READABLE_WORDS
from frugalseg.data.layouts.description import read_description
from frugalseg.data.layouts.listing import images_by_name
from frugalseg.data.manifest import DataSource, read_manifest, test_labels
from frugalseg.data.prepare import describe_difference
from frugalseg.data.readers import read_label
from frugalseg.data.region_labels import expand_regions
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError, UserError
from frugalseg.evaluation import CaseRow, Summary, score_case, summarise, write_cases_csv, write_summary
from frugalseg.evaluation.box import joint_box
from frugalseg.files import hash_file, hash_value
from frugalseg.geometry import Grid, crop_grid
from frugalseg.geometry import tolerance_mm as limit_mm
from frugalseg.jobs.predicted import RECORD, made_by, members, read_record
from frugalseg.jobs.prepare import volumes_of
from frugalseg.jobs.resources import at_a_time
from frugalseg.jobs.show import bar
from frugalseg.report import EvaluationPart, PictureCase, write_report

DATASET = "dataset.json"
LABEL_FOLDERS = ("labelsTr", "labelsTs")


SCORING = 32  # bytes of a voxel that a case holds while its two label maps are read: as stored, and decoded


@dataclass(frozen=True)
class EvaluationResult:
    """The summary and its rows; `missing` are truth cases without a prediction."""

    summary: Summary
    rows: list[CaseRow]
    missing: tuple[str, ...]


def evaluate(
    predictions: Path,
    truth: Path,
    out: Path,
    tolerance_mm: float = 1.0,
    cases: Sequence[str] | None = None,
    allow_missing: bool = False,
    describe: Path | None = None,
) -> EvaluationResult:
    """Score predictions and write cases.csv, summary.json and report.html.

    Args:
        predictions: Folder of label maps named like the cases.
        truth: A data set, a folder or a CSV (its test labels are taken), or a folder of label maps; of a data set's
            own folder of labels its dataset.json says what they mean.
        out: Folder for the results; must not exist or be empty.
        tolerance_mm: Of surface Dice, in millimetres.
        cases: Only these cases; by default every truth case.
        allow_missing: Count truth cases without a prediction as missed, instead of refusing.
        describe: JSON that says what the labels of a CSV or of a folder of label maps mean.

    Raises:
        UserError: Truth cases have no prediction; the folder holds nothing to compare; `out` is not empty.
        DataError: A file cannot be read, or a prediction lies on another grid than its truth.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("exists and is not empty; choose another --out", out)
    if not predictions.is_dir():
        raise UserError("is not a folder of predictions; give one", predictions)
    data = find_data_set(truth, describe)
    if data is not None and data.path == truth:
        labels = test_labels(data)
    elif truth.is_dir():
        labels = images_by_name(truth)
    else:
        raise UserError("is neither a folder of label maps nor a data set; give one", truth)
    if not labels:
        raise UserError(
            f"has no label maps of test cases ({READABLE_WORDS}; a data set's lie in labelsTs); put "
            "some there, or give another folder",
            truth,
        )
    if cases is not None:
        if unknown := sorted(set(cases) - set(labels)):
            raise UserError(f"has no label of case {unknown[0]!r}; correct --cases", truth)
        labels = {name: labels[name] for name in labels if name in set(cases)}
    found = images_by_name(predictions)
    missing = tuple(name for name in labels if name not in found)
    if len(missing) == len(labels):
        raise UserError(
            f"holds no prediction of any of the {len(labels)} truth cases; name files like the cases", predictions
        )
    if missing and not allow_missing:
        listed = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise UserError(
            f"{len(missing)} truth cases have no prediction ({listed}); predict them, or count them as missed with "
            "--allow-missing",
            predictions,
        )
    noted = read_record(predictions)  # what is wrong with it is told before anything is written
    scheme = find_scheme(predictions, data, describe)
    annotated = find_annotated(data)
    rows: list[CaseRow] = []
    # Threads: unpacking files, and what NumPy and SciPy do with volumes, let others run.
    largest = max((volume.voxels for volume in volumes_of([[path] for path in labels.values()])), default=1)
    count = at_a_time(largest * (SCORING + 2 * len(scheme.structures)))
    with bar("evaluating", len(labels)) as advance, ThreadPoolExecutor(count) as executor:

        def score(name: str) -> list[CaseRow]:
            return evaluate_case(name, labels[name], found.get(name), scheme, tolerance_mm, annotated.get(name))

        try:
            for scored in executor.map(score, labels):
                rows += scored
                advance()
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise
    summary = summarise(rows, missing)
    write_cases_csv(out / "cases.csv", rows)
    write_summary(out / "summary.json", summary, made_by(noted, [name for name in labels if name in found]))
    report(predictions, labels, found, scheme, summary, rows, out)
    return EvaluationResult(summary, rows, missing)


def report(
    predictions: Path,
    labels: Mapping[str, Path],
    found: Mapping[str, Path],
    scheme: LabelScheme,
    summary: Summary,
    rows: Sequence[CaseRow],
    out: Path,
    note: str = "",
) -> None:
    """Write report.html: scores, the worst, median and best case, and the run that made the predictions.

    `note` stands behind the name of the truth.
    """
    record = read_record(predictions)
    if (count := len(members(record))) > 1:
        note += f"; the predictions are the mean of {count} models, the run below is the first of them"
    pictures = []
    for title, score in summary.examples.items():
        files = record.get("cases", {}).get(score.case) or []
        image = Path(str(files[0])) if files else None
        if image is not None and image.is_file() and score.case in found:
            dice = score.means["dice"]
            own = [row for row in rows if row.case == score.case and not row.extra]
            unknown = tuple(row.structure for row in own if row.status == "not_annotated")
            files_of = image, labels[score.case], found[score.case]
            pictures.append(PictureCase(score.case, title, dice, *files_of, unknown))
    run = Path(str(record["run"])) if "run" in record else None
    source = next(iter(labels.values())).parent
    transductive = bool(record.get("transductive"))
    part = EvaluationPart(
        summary, rows, pictures, scheme, f"{source.parent.name}/{source.name}{note}", transductive
    )
    write_report(out / "report.html", run if run is not None and run.is_dir() else None, part)


def evaluate_case(
    name: str,
    truth: Path,
    prediction: Path | None,
    scheme: LabelScheme,
    tolerance_mm: float,
    annotated: Collection[str] | None = None,
) -> list[CaseRow]:
    """Score one case; without a prediction every structure of the truth is missed.

    Structures that are not `annotated` (None: all are) are not scored, nor voxels of the ignored value. Masks are
    made of the box alone in which anything is: of a hundred structures whole ones would be a hundred volumes.
    """
    grid, label, _ = read_label(truth, scheme.allowed)
    if prediction is None:
        return _scored(name, label, None, grid, scheme, tolerance_mm, annotated)
    other, values, _ = read_label(prediction, scheme.predicted)
    if other.shape != grid.shape:
        raise DataError(
            f"has shape {other.shape}, its truth {grid.shape}; resample it to its truth's grid", prediction
        )
    if (apart := grid.difference(other)) > limit_mm(grid):
        raise DataError(
            f"lies {apart:.4g} mm away from its truth ({describe_difference(grid, other)}); resample "
            "it to its truth's grid",
            prediction,
        )
    return _scored(name, label, values, grid, scheme, tolerance_mm, annotated)


def _scored(
    name: str,
    label: NDArray[Any],
    values: NDArray[Any] | None,
    grid: Grid,
    scheme: LabelScheme,
    tolerance_mm: float,
    annotated: Collection[str] | None,
) -> list[CaseRow]:
    """Score label maps (x, y, z) of one grid, cut to where any of them holds something."""
    box = joint_box([part != 0 for part in (label, values) if part is not None])
    if box[0].stop == 0:
        box = (slice(0, 1), slice(0, 1), slice(0, 1))  # nothing anywhere: any voxel says as much
    x, y, z = ((side.start, side.stop) for side in box)
    count = 0 if scheme.ignore is None else int(np.count_nonzero(scheme.ignored(label)))
    label = label[box]
    masks = {structure: np.asarray(scheme.mask(label, structure)) for structure in scheme.structures}
    ignored = scheme.ignored(label) if count else None
    guess = None
    if values is not None:
        part = values[box]
        guess = {structure: np.asarray(scheme.mask(part, structure)) for structure in scheme.structures}
    cut, diagonal = crop_grid(grid, (x, y, z)), grid.diagonal
    rows = score_case(name, masks, guess, cut, tolerance_mm, annotated, ignored, diagonal)
    return [replace(row, voxels_ignored=count) for row in rows] if count else list(rows)


def truth_hash(data: Path | DataSource) -> str:
    """Return the hash of a data set's test labels, by which a table of scores is told from one of other labels."""
    source = DataSource.of(data)
    labels = test_labels(source)
    if not labels:
        raise UserError("has no labels of its test cases (labelsTs) to score against", source.path)
    return hash_value({name: hash_file(path) for name, path in labels.items()})


def find_data_set(truth: Path, describe: Path | None = None) -> DataSource | None:
    """Return the data set that the truth is, or whose labels it holds, or None."""
    source = DataSource(truth, describe=describe)
    if source.is_table or (truth / DATASET).exists():
        return source
    beside = truth.absolute()
    is_part = beside.name in LABEL_FOLDERS and (beside.parent / DATASET).exists()
    return DataSource(beside.parent, describe=describe) if is_part else None


def find_annotated(data: DataSource | None) -> dict[str, tuple[str, ...] | None]:
    """Return the annotated structures of the data set's cases; None: all."""
    if data is None:
        return {}
    manifest = read_manifest(data)
    return {case.name: case.annotated for case in (*manifest.training, *manifest.test)}


def find_scheme(predictions: Path, data: DataSource | None, describe: Path | None = None) -> LabelScheme:
    """Take the label scheme from the data set, else from the description, else from the predictions' record.

    Raises:
        UserError: Neither is there.
    """
    if data is not None:
        return read_manifest(data).scheme
    if describe is not None:
        return LabelScheme.from_json(expand_regions(read_description(describe), describe), str(describe))
    if record := read_record(predictions):
        return LabelScheme.from_json(record.get("scheme") or {}, str(predictions / RECORD))
    raise UserError(
        f"has no {RECORD}, so the labels' meaning is unknown; give the data set instead of its label folder",
        predictions,
    )
