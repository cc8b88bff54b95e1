"""Half of the labelled cases lack a structure: trained, predicted and scored from end to end, and its gradients."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from frugalseg.data.augment import PUBLISHED
from frugalseg.data.manifest import read_manifest
from frugalseg.data.patches import Samples, SamplingSettings
from frugalseg.data.phantom import write_phantom
from frugalseg.data.prepare import prepare
from frugalseg.data.preprocess import Preparation
from frugalseg.errors import UserError
from frugalseg.jobs.evaluate import evaluate
from frugalseg.jobs.predict import predict
from frugalseg.jobs.train import train
from frugalseg.objectives import Batch, SegmentationLoss, SegmentationSettings
from frugalseg.training.loader import batches
from tests.data.datasets import change

LACKING, COMPLETE = ("phantom_000", "phantom_002"), ("phantom_001", "phantom_003")
OUTER = ["whole_tumour", "tumour_core"]
OVERRIDES = [
    "crop=[24,24,24]",
    "network.width=8",
    "network.blocks=[1,1,1]",
    "training.steps=3",
    "training.validate_every=1",
]


def relabel(path: Path, old: int, new: int, where: tuple[Any, ...] = (...,)) -> None:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    label = np.asarray(image.dataobj).astype(np.uint8)
    part = label[where]
    part[part == old] = new
    nib.save(nib.Nifti1Image(label, image.affine, image.header), path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four labelled cases, two of them without the enhancing part; one test case shows only the outer region."""
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, cases=5, labelled=4, test=2, shape=(28, 28, 24), seed=1)
    for name in LACKING:
        relabel(folder / "labelsTr" / f"{name}.nii.gz", 3, 2)
    relabel(folder / "labelsTs" / "phantom_006.nii.gz", 0, 255, np.s_[:, :, :6])
    annotated = {**dict.fromkeys(LACKING, OUTER), "phantom_005": ["whole_tumour"]}
    change(folder, annotated_classes=annotated, ignore=255)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def test_from_training_to_scores(
    data: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("phantom_001\nphantom_003\nphantom_002\nphantom_000\n")
    out = tmp_path / "run"
    train(data, out, "encdec", labelled=names, overrides=OVERRIDES, store=store, validation=1)
    told = capsys.readouterr().err
    assert "2 of 4 labels show only a part of the structures" in told
    assert "(missed or spurious: 0; in neither, or not annotated: left out)" in told
    with (out / "validation.csv").open() as file:
        looks = list(csv.DictReader(file))
    # phantom_000 chooses the checkpoint by the two regions that it shows.
    assert len(looks) == 3
    assert all(look["dice.enhancing"] == "" and look["dice.whole_tumour"] != "" for look in looks)
    predict(out, [data], tmp_path / "p")
    for path in sorted((tmp_path / "p").glob("*.nii.gz")):
        image = nib.load(path)
        assert isinstance(image, nib.Nifti1Image)
        assert set(np.unique(np.asarray(image.dataobj))) <= {0, 1, 2, 3}
    result = evaluate(tmp_path / "p", data, tmp_path / "e")
    status = {(row.case, row.structure): row.status for row in result.rows}
    unknown = {key for key, value in status.items() if value == "not_annotated"}
    assert unknown == {("phantom_005", name) for name in ("tumour_core", "enhancing", "any_foreground")}
    summary = json.loads((tmp_path / "e" / "summary.json").read_text())
    assert (summary["n_cases"], summary["n_cases_in_part"], summary["n_cases_ignored"]) == (2, 1, 1)
    assert summary["structures"]["enhancing"]["n_not_annotated"] == 1
    assert summary["voxels_ignored"] > 0
    page = (tmp_path / "e" / "report.html").read_text()
    assert page.count("Not annotated in a case") == 2
    assert "not_annotated" in (tmp_path / "e" / "cases.csv").read_text()
    # The data set's own folder of labels means the same as the data set.
    again = evaluate(tmp_path / "p", data / "labelsTs", tmp_path / "f")
    assert again.rows == result.rows
    # A copy elsewhere says nothing of what was annotated; the ignored value stands in the predictions' record.
    copy = tmp_path / "copy"
    copy.mkdir()
    for label in (data / "labelsTs").iterdir():
        (copy / label.name).write_bytes(label.read_bytes())
    bare = evaluate(tmp_path / "p", copy, tmp_path / "g")
    assert bare.summary.n_cases_in_part == 0
    assert bare.summary.voxels_ignored == result.summary.voxels_ignored


def test_a_budget_without_the_structure_is_refused(data: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(LACKING))
    with pytest.raises(UserError, match=r"'enhancing' was annotated in none of the 2 cases .* phantom_001"):
        train(data, tmp_path / "run", "encdec", labelled=tmp_path / "names.txt", overrides=OVERRIDES, store=store)
    assert not (tmp_path / "run").exists()


def batches_of(data: Path, store: Path, names: tuple[str, ...]) -> list[Batch]:
    """Return the steps of a run with all labelled cases whose two crops are of these cases."""
    manifest = read_manifest(data)
    chosen = [case for case in manifest.labelled if case.name in names]
    others = [case for case in manifest.labelled if case.name not in names]
    cases = prepare(manifest, [*chosen, *others], {case.name for case in manifest.labelled}, store, Preparation())
    scheme = manifest.scheme
    sampling = SamplingSettings(labelled=2, unlabelled=0)
    source = Samples(cases, len(cases), (24, 24, 24), scheme.groups, scheme.classes, sampling, PUBLISHED, (0,), 0)
    found = list(batches(source, 0, 16, 0, torch.device("cpu")))
    wanted = [batch for batch in found if all(int(index) < len(chosen) for index in batch.cases)]
    assert wanted
    return wanted


def gradient(batch: Batch, groups: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss's gradient at random logits, and the probabilities there."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(batch.image), groups * classes, *batch.image.shape[2:])
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    parts = SegmentationLoss(SegmentationSettings(), groups, classes)(logits, batch)
    torch.stack(list(parts.values())).sum().backward()
    assert logits.grad is not None
    return logits.grad, logits.detach().softmax(dim=1)


def test_a_region_learns_from_the_cases_that_show_it_and_from_no_other(data: Path, store: Path) -> None:
    for batch in batches_of(data, store, LACKING):
        found, _ = gradient(batch, 3, 2)
        assert not found[:, 4:].any()  # exactly none
        assert found[:, :4].any()
    assert all(gradient(batch, 3, 2)[0][:, 4:].any() for batch in batches_of(data, store, COMPLETE))


def test_an_exclusive_class_learns_from_the_cases_that_show_it_and_from_no_other(
    data: Path, store: Path, tmp_path: Path
) -> None:
    """A gradient that tells the class from background there is none; one against known classes there is."""
    folder = tmp_path / "data"
    for path in sorted(data.rglob("*")):
        if path.is_file():
            (folder / path.relative_to(data)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(data)).write_bytes(path.read_bytes())
    known = ["edema", "non-enhancing tumour"]
    change(folder, regions=None, annotated_classes=dict.fromkeys(LACKING, known))

    def against_background(batch: Batch) -> torch.Tensor:
        found, p = gradient(batch, 1, 4)
        return (found[:, 0] * p[:, 3] - found[:, 3] * p[:, 0]).abs()

    for batch in batches_of(folder, store, LACKING):
        assert batch.annotated is not None
        assert batch.annotated.tolist() == [[1, 1, 1, 0]] * 2
        assert against_background(batch).max() < 1e-12
        assert gradient(batch, 1, 4)[0].abs().max() > 1e-6
    for batch in batches_of(folder, store, COMPLETE):
        assert against_background(batch).max() > 1e-6
