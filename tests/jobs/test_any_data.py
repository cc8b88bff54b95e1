"""Runs on what is not a volume of one spacing with all channels: resampled, CT, one slice, a missing channel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from frugalseg.data.manifest import read_manifest
from frugalseg.data.prepare import prepare
from frugalseg.data.preprocess import Preparation
from frugalseg.data.store import open_array
from frugalseg.errors import DataError
from frugalseg.files import read_json_object
from frugalseg.jobs import validate
from frugalseg.jobs.predict import predict
from frugalseg.jobs.record import read_plan
from frugalseg.jobs.train import train
from tests.data.datasets import change, make_case, write_data_set, write_nifti

TINY = ["network.width=8", "training.steps=2", "training.workers=0", "training.device=cpu"]
CPC = ["auxiliary.cpc.patch=[8,8,1]", "auxiliary.cpc.stride=[4,4,1]", "auxiliary.cpc.blocks=1"]


def loaded(path: Path) -> Any:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return np.asarray(image.dataobj), image.affine


def test_two_spacings_and_ct_from_files_to_predictions_in_their_own_voxels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data_set(tmp_path / "data", labelled=3, unlabelled=1, modality={"0": "CT"})
    fine = np.diag([-1.0, 1.0, 0.5, 1.0])
    for name in ("imagesTr/case_02", "labelsTr/case_02", "imagesTs/case_04"):
        voxels, _ = loaded(data / f"{name}.nii.gz")
        write_nifti(data / f"{name}.nii.gz", np.repeat(voxels, 2, axis=2), fine)
    seen = []
    scored = validate.known_dice

    def note(truth: Any, found: Any, *rest: Any) -> Any:
        seen.append((truth.shape, found.shape))
        return scored(truth, found, *rest)

    monkeypatch.setattr(validate, "known_dice", note)
    names = tmp_path / "names"
    names.write_text("case_00\ncase_01\ncase_02\n")
    change(data, validation=["case_02"])
    options: dict[str, Any] = {
        "method": "encdec", "labelled": names, "store": tmp_path / "store", "validation": "listed",
        "overrides": [*TINY, "crop=[8,8,8]", "training.steps=2"],
    }  # fmt: skip
    train(data, tmp_path / "run", **options)
    preparation = read_plan(tmp_path / "run").preparation
    assert preparation is not None
    assert preparation.spacing == pytest.approx((1, 1, 1))
    (window,) = preparation.windows
    assert window is not None
    assert window.low > 120  # the foreground's
    # Validated in the file's own 16 voxels upwards, not in the prepared 8.
    assert seen
    assert {shape for pair in seen for shape in pair} == {(1, 10, 12, 16)}
    (path,) = predict(tmp_path / "run", [data], tmp_path / "out", probabilities=True)
    label, affine = loaded(path)
    assert label.shape == (10, 12, 16)
    np.testing.assert_allclose(affine, fine)
    probability, _ = loaded(tmp_path / "out" / "case_04_probability_box.nii.gz")
    assert np.array_equal(probability > 0.5, label == 1)
    # What was chosen stands, whatever the images say now.
    plan = read_json_object(tmp_path / "run" / "plan.json")
    assert "median" in plan["reasons"]["spacing"]
    train(data, tmp_path / "run", resume=True, **options)


@pytest.mark.parametrize("method", ["encdec", "boundseg", "ssvaeseg", "sscpcseg"])
def test_images_of_one_slice(method: str, tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", labelled=2, unlabelled=2)
    for path in sorted(data.glob("*/*.nii.gz")):
        voxels, _ = loaded(path)
        flat = np.repeat(np.repeat(voxels[:, :, 4:5], 3, axis=0), 3, axis=1)
        write_nifti(path, flat, np.diag([1.0, 1.0, 0.01 if "02" in path.name else 5.0, 1.0]))
    options = [*TINY, *(CPC if "cpc" in method else [])]
    train(data, tmp_path / "run", method, labels=2, overrides=options, store=tmp_path / "store")
    plan = read_plan(tmp_path / "run")
    assert plan.crop[2] == 1
    assert {kernel[2] for kernel in plan.kernels} == {1}
    (path,) = predict(tmp_path / "run", [data], tmp_path / "out")
    assert loaded(path)[0].shape == (30, 36, 1)


def test_a_missing_channel_is_refused_or_zero(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", labelled=2, unlabelled=0)
    change(data, modality={"0": "T1", "1": "FLAIR"})
    for path in sorted(data.glob("images*/*.nii.gz")):
        voxels, _ = loaded(path)
        write_nifti(path, np.stack([voxels, voxels[::-1]], axis=-1))
    manifest = read_manifest(data)
    whole, other = manifest.training
    only, _ = make_case(1)
    write_nifti(tmp_path / "flair.nii.gz", only)
    lacking = replace(other, images=(tmp_path / "flair.nii.gz",), missing=(0,))
    with pytest.raises(DataError, match=r"case 'case_01' has no channel T1; .*missing_channels=zero"):
        prepare(manifest, [whole, lacking], (), tmp_path / "store", Preparation(), 1)
    zero = Preparation(zero_missing=True)
    first, second = prepare(manifest, [whole, lacking], (), tmp_path / "store", zero, 1)
    image = np.asarray(open_array(second.image)[:])
    assert not image[0].any()
    assert image[1].std() == pytest.approx(1, abs=0.01)
    assert (first.missing, second.missing) == ((), (0,))
    assert second.background[0] == 0
    # Complete cases are what they were without the setting.
    assert prepare(manifest, [whole], (), tmp_path / "store", Preparation(), 1)[0].key == first.key


def test_a_model_trained_for_it_predicts_without_a_channel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data_set(tmp_path / "data", labelled=2, unlabelled=0)
    change(data, modality={"0": "T1", "1": "FLAIR"})
    for path in sorted(data.glob("images*/*.nii.gz")):
        voxels, _ = loaded(path)
        write_nifti(path, np.stack([voxels, voxels[::-1]], axis=-1))
    options = [*TINY, "crop=[8,8,8]"]
    for name, more in (("strict", []), ("zero", ["preprocess.missing_channels=zero"])):
        train(data, tmp_path / name, "encdec", overrides=[*options, *more], store=tmp_path / "store")
    lone = tmp_path / "patient" / "flair.nii.gz"
    write_nifti(lone, make_case(7)[0])
    with pytest.raises(Exception, match="channel T1 is missing"):
        predict(tmp_path / "strict", channels={"FLAIR": lone}, out=tmp_path / "a")
    capsys.readouterr()
    (path,) = predict(tmp_path / "zero", channels={"FLAIR": lone}, out=tmp_path / "b")
    assert loaded(path)[0].shape == (10, 12, 8)
    told = capsys.readouterr()
    assert "patient: no channel T1; predicted without it" in told.out + told.err
