"""Break a phantom data set in twenty-nine ways: what `check` says of each, and what `check --mend` makes of it.

Every way starts from the same sound data set of six small cases, so that a line that has nothing to do with the
fault would show up as a false alarm. The table says: how it was broken, the line that was printed, what became of
the case, and what the check of the mended copy still finds.

Command: .venv/bin/python -m benchmarks.broken [--out benchmarks/results/check/table.md]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from frugalseg.data.check import check
from frugalseg.data.check_text import line
from frugalseg.data.mend import MendSettings
from frugalseg.data.phantom import write_phantom
from frugalseg.files import write_text
from frugalseg.jobs.mend import mend

SHAPE = (28, 28, 24)
LABELLED, OTHER, UNLABELLED, TEST = "phantom_000", "phantom_001", "phantom_003", "phantom_005"
EXPECTED = {
    "orientations",
    "border",
    "specks",
    "structure-missing",
    "structure-rare",
    "tiny",
}  # what a phantom this small has anyway


@dataclass(frozen=True)
class Way:
    """A way to break a data set: the kind of finding that it must raise, and whether the case's fate.

    `outcome`: what becomes of the case; None where the fault is not one case's.
    """

    name: str
    kind: str
    outcome: str | None
    breaks: Callable[[Path], None]
    settings: MendSettings = field(default_factory=MendSettings)


@dataclass(frozen=True)
class Result:
    """What was said of a broken data set, without what is said of the sound one, and of its mended copy."""

    way: Way
    lines: tuple[str, ...]
    kinds: tuple[str, ...]
    outcome: str
    left: tuple[str, ...]


def image(folder: Path, case: str = LABELLED) -> Path:
    return next(folder.glob(f"images*/{case}.nii.gz"))


def label(folder: Path, case: str = LABELLED) -> Path:
    return folder / "labelsTr" / f"{case}.nii.gz"


def read(file: Path) -> Any:
    loaded: Any = nib.load(file)
    return np.asarray(loaded.dataobj)


def again(folder: Path, case: str) -> None:
    """Save a case's image once more among the training images, as another type of numbers."""
    new = folder / "imagesTr" / "new.nii.gz"
    shutil.copy(image(folder, case), new)
    voxels(new, lambda array: None, np.float32)


def rewrite(file: Path, change: Callable[[Any, Any, Any], tuple[Any, Any]], **header: Any) -> None:
    """Save a file anew: `change` gets voxels, affine and header and returns voxels and affine."""
    old: Any = nib.load(file)
    voxels, affine = change(np.asarray(old.dataobj).copy(), old.affine.copy(), old.header)
    new = nib.Nifti1Image(voxels, affine)
    new.header.set_xyzt_units("mm")
    for key, value in header.items():
        new.header[key] = value
    nib.save(nib.Nifti1Image(voxels, None, new.header) if header else new, file)


def voxels(file: Path, change: Callable[[Any], Any], dtype: Any = None) -> None:
    """Change a file's voxels and nothing else."""

    def both(array: Any, affine: Any, _: Any) -> tuple[Any, Any]:
        array = array.astype(dtype or array.dtype)
        result = change(array)
        return (array if result is None else result), affine

    rewrite(file, both)


def shift(file: Path, millimetres: float) -> None:
    def moved(array: Any, affine: Any, _: Any) -> tuple[Any, Any]:
        affine[0, 3] += millimetres
        return array, affine

    rewrite(file, moved)


def set_values(file: Path, value: float, count: int, dtype: Any = None) -> None:
    """Set the first `count` voxels, in the corner where nothing is."""

    def change(array: Any) -> None:
        array.reshape(-1)[:count] = value

    voxels(file, change, dtype)


def qform(file: Path, millimetres: float) -> None:
    old: Any = nib.load(file)
    array, affine = np.asarray(old.dataobj), old.affine.copy()
    new = nib.Nifti1Image(array, affine)
    new.header.set_xyzt_units("mm")
    new.header.set_sform(affine, code=1)
    affine[0, 3] += millimetres
    new.header.set_qform(affine, code=1)
    nib.save(nib.Nifti1Image(array, None, new.header), file)


def tilt(file: Path) -> None:
    def sheared(array: Any, affine: Any, _: Any) -> tuple[Any, Any]:
        slide = np.eye(4)
        slide[1, 2] = np.tan(np.radians(12))
        return array, slide @ affine

    rewrite(file, sheared)


def both_sheared(folder: Path) -> None:
    tilt(image(folder))
    tilt(label(folder))


def scaled(folder: Path, factor: float) -> None:
    def larger(array: Any, affine: Any, _: Any) -> tuple[Any, Any]:
        affine[:3, :3] *= factor
        return array, affine

    rewrite(image(folder, UNLABELLED), larger)


def no_codes(folder: Path) -> None:
    for file in (image(folder), label(folder)):
        rewrite(file, lambda array, affine, _: (array, affine), sform_code=0, qform_code=0)


def metres(folder: Path) -> None:
    rewrite(image(folder, UNLABELLED), lambda array, affine, _: (array, affine), xyzt_units=1)


def same_channel(array: Any) -> None:
    array[..., 2] = array[..., 1]


def constant_channel(array: Any) -> None:
    array[..., 2] = 7


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    change(content)
    (folder / "dataset.json").write_text(json.dumps(content))


def new_structure(content: dict[str, Any]) -> None:
    content["labels"]["4"] = "cyst"
    content["regions"]["cyst"] = [4]
    content.pop("regions_class_order", None)
    content["regions_class_order"] = [1, 2, 3, 4]


def ways() -> Iterator[Way]:
    """Yield every way, those that are mended without being asked first."""
    yield Way("label shifted by 0.05 mm", "label-grid", "mended", lambda f: shift(label(f), 0.05))
    yield Way("label shifted by 3 mm", "label-grid", "left out", lambda f: shift(label(f), 3.0))
    yield Way(
        "label one slice short",
        "label-grid",
        "left out",
        lambda f: voxels(label(f), lambda array: array[:, :, :-1]),
    )
    yield Way(
        "labels as 0.9998 instead of 1",
        "label-rounded",
        "mended",
        lambda f: voxels(label(f), lambda array: array * 0.9998, np.float64),
    )
    yield Way("soft label", "label-soft", "left out", lambda f: set_values(label(f), 0.37, 60, np.float32))
    yield Way(
        "value 255 in a label",
        "label-values",
        "mended",
        lambda f: set_values(label(f), 255, 12),
        MendSettings(remap={255: 0}),
    )
    yield Way("value 7 in a label, nothing said", "label-values", "left out", lambda f: set_values(label(f), 7, 12))
    yield Way(
        "image in the place of a label",
        "label-like-image",
        "left out",
        lambda f: voxels(label(f), lambda array: read(image(f))[..., 0]),
    )
    yield Way("empty label", "label-empty", "unchanged", lambda f: voxels(label(f), lambda array: array * 0))
    yield Way(
        "label of another case",
        "same-label",
        "unchanged",
        lambda f: voxels(label(f, OTHER), lambda array: read(label(f))[::-1]),
    )
    yield Way("qform 0.04 mm off", "sform-qform", "mended", lambda f: qform(image(f), 0.04))
    yield Way("qform 40 mm off", "sform-qform", "unchanged", lambda f: qform(image(f), 40.0))
    yield Way(
        "qform 40 mm off, limit raised",
        "sform-qform",
        "mended",
        lambda f: qform(image(f), 40.0),
        MendSettings(limit=50.0),
    )
    yield Way("slices slide by 12 degrees", "shear", "unchanged", both_sheared)
    yield Way("no transform in the header", "no-orientation", "unchanged", no_codes)
    yield Way("lengths in metres", "unit", "unchanged", metres)
    yield Way("voxels three times as large", "spacing-outlier", "unchanged", lambda f: scaled(f, 3.0))
    yield Way(
        "NaN in an image",
        "not-finite",
        "mended",
        lambda f: set_values(image(f), np.nan, 9, np.float32),
        MendSettings(nan_to_zero=True),
    )
    yield Way(
        "infinite voxels, nothing said",
        "not-finite",
        "left out",
        lambda f: set_values(image(f), np.inf, 9, np.float32),
    )
    yield Way("a channel is constant", "constant", "unchanged", lambda f: voxels(image(f), constant_channel))
    yield Way("a channel twice", "same-channels", "unchanged", lambda f: voxels(image(f), same_channel))
    yield Way(
        "a channel is missing", "channels", "left out", lambda f: voxels(image(f), lambda array: array[..., :3])
    )
    yield Way(
        "a label in the place of a channel",
        "image-like-label",
        "unchanged",
        lambda f: voxels(image(f), lambda array: _with_label(array, f)),
    )
    yield Way("image cut short", "unreadable", "left out", lambda f: _cut(image(f)))
    yield Way("image missing", "unreadable", "left out", lambda f: image(f).unlink())
    yield Way(
        "test image saved anew in training",
        "copy-of-test",
        "left out",
        lambda f: _saved_anew(f, image(f, TEST)),
    )
    yield Way(
        "training image twice",
        "copy",
        "unchanged",
        lambda f: _saved_anew(f, image(f)),
    )
    yield Way(
        "patient in training and test",
        "patient-roles",
        None,
        lambda f: edit(f, lambda content: content.update(groups={LABELLED: "p", TEST: "p"})),
    )
    yield Way("structure that no label has", "structure-absent", None, lambda f: edit(f, new_structure))


def _with_label(array: Any, folder: Path) -> None:
    array[..., 3] = read(label(folder))


def _saved_anew(folder: Path, source: Path) -> None:
    """Save an image under another name in another number format: another file with the same voxels."""
    copy = folder / "imagesTr" / "new.nii.gz"
    shutil.copy(source, copy)
    voxels(copy, lambda array: None, np.float32)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:4000])


def try_way(way: Way, sound: Path, place: Path) -> Result:
    """Break a copy of the sound data set, check it, and mend it."""
    broken = place / "broken"
    shutil.copytree(sound, broken)
    way.breaks(broken)
    findings = [finding for finding in check(broken).findings if finding.kind not in EXPECTED]
    result = mend(broken, place / "mended", way.settings)
    cases = {case.status for case in result.cases} - {"unchanged"}
    after = () if result.report is None else result.report.findings
    left = tuple(finding.kind for finding in after if finding.kind not in EXPECTED)
    return Result(
        way,
        tuple(f"{finding.severity}: {line(finding)}" for finding in findings),
        tuple(finding.kind for finding in findings),
        ", ".join(sorted(cases)) or "unchanged",
        left,
    )


def table(results: list[Result]) -> str:
    """Return the results as a table in Markdown."""
    rows = ["| how it was broken | what check says | --mend | case | left in the copy |", "|---|---|---|---|---|"]
    for result in results:
        options = " ".join(_options(result.way.settings)) or "no option"
        said = "<br>".join(result.lines).replace("|", "\\|")
        rows.append(
            f"| {result.way.name} | {said} | {options} | {result.outcome} | {', '.join(result.left) or '-'} |"
        )
    return "\n".join(rows) + "\n"


def _options(settings: MendSettings) -> list[str]:
    options = [f"--remap {old}={new}" for old, new in settings.remap.items()]
    options += [] if settings.limit is None else [f"--mend-limit {settings.limit:g}"]
    options += ["--resample-channels"] * settings.resample_channels + ["--nan-to-zero"] * settings.nan_to_zero
    return options


def sound_data_set(folder: Path) -> Path:
    write_phantom(folder, cases=5, labelled=3, test=1, shape=SHAPE, seed=3)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    results = []
    with tempfile.TemporaryDirectory() as name:
        sound = sound_data_set(Path(name) / "sound")
        for number, way in enumerate(ways()):
            place = Path(name) / str(number)
            place.mkdir()
            results.append(try_way(way, sound, place))
            shutil.rmtree(place)
    text = table(results)
    missed = [r.way.name for r in results if r.kinds.count(r.way.kind) == 0]
    other = [f"{r.way.name}: {kind}" for r in results for kind in r.kinds if kind != r.way.kind]
    wrong = [r.way.name for r in results if r.way.outcome not in (None, r.outcome)]
    text += f"\n{len(results)} ways; not found: {missed or 'none'}; also said: {other or 'nothing'}; "
    text += f"another outcome than expected: {wrong or 'none'}.\n"
    print(text)
    if out is not None:
        write_text(out, text)


if __name__ == "__main__":
    main()
