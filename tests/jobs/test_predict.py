"""Predictions of a network that can be worked out by hand, on the images' own grids."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalseg.config import load_config
from frugalseg.data.preprocess import Preparation
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError
from frugalseg.inference.inputs import PredictionInput, find_inputs
from frugalseg.inference.window import sliding_window
from frugalseg.jobs.ahead import WriteBehind
from frugalseg.jobs.ensemble import Ensemble
from frugalseg.jobs.model import Model
from frugalseg.jobs.predict import file_words, predict_case
from frugalseg.jobs.prepare import volumes_of
from tests.data.datasets import write_nifti

CLASSES = LabelScheme.from_json({"labels": {"background": 0, "left part": 2, "tumour": 7}})
REGIONS = LabelScheme.from_json(
    {"labels": {"0": "background", "1": "a", "2": "b"}, "regions": {"whole": [1, 2], "core": [2]}}
)


class Pointwise:
    """A stand-in for a model: each output is a function of its own voxel alone, so windows cannot matter."""

    def __init__(self, scheme: LabelScheme, channels: tuple[str, ...] = ("MRI",)) -> None:
        self.scheme, self.channels = scheme, channels
        self.config = load_config("encdec", ["training.device=cpu"])
        self.plan = SimpleNamespace(crop=(8, 8, 8))
        self.preparation = Preparation()
        self.seen: list[Tensor] = []

    def logits(self, image: Tensor) -> Tensor:
        """(n, C, x, y, z) to (n, R x K, x, y, z)."""
        first = image[:, :1]
        if self.scheme.exclusive:
            return torch.cat([torch.zeros_like(first), first + 0.3, 1.5 * first * first - 1], dim=1)
        return torch.cat([torch.zeros_like(first), first, torch.zeros_like(first), first - 0.7], dim=1)

    def predict(self, windows: Tensor, flips: bool) -> Tensor:
        self.seen.append(windows)
        groups, logits = self.scheme.groups, self.logits(windows)
        split = logits.reshape(len(logits), groups, -1, *logits.shape[2:])
        return split.softmax(dim=2).reshape(logits.shape)


def loaded(path: Path) -> NDArray[Any]:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return np.asarray(image.dataobj)


def one(path: Path, model: Pointwise) -> PredictionInput:
    return find_inputs([path], {}, model.channels)[0]


def predict(path: Path, model: Pointwise, out: Path, maps: bool = True) -> Path:
    like, item = Ensemble((cast(Model, model),)), one(path, model)
    with WriteBehind() as behind:
        return predict_case(like, item, like.prepare(item), out, False, maps, behind)


def normalised(voxels: NDArray[np.float32]) -> NDArray[np.float64]:
    known = voxels[voxels != 0].astype(np.float64)
    return np.asarray((voxels - known.mean()) / known.std())


def image_with_border(seed: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    image = np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)
    image[:2] = 0
    image[:, -1] = 0
    return image


@pytest.mark.parametrize("shape", [(19, 14, 9), (6, 9, 5)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1)])
def test_exclusive_classes(tmp_path: Path, shape: tuple[int, int, int], signs: tuple[int, ...]) -> None:
    image = image_with_border(0, shape)
    write_nifti(tmp_path / "in" / "a.nii.gz", image, np.diag([signs[0], 2.0 * signs[1], 3.0 * signs[2], 1.0]))
    model = Pointwise(CLASSES)
    assert predict(tmp_path / "in" / "a.nii.gz", model, tmp_path / "out") == tmp_path / "out" / "a.nii.gz"
    score = normalised(image)
    logits = np.stack([np.zeros(shape), score + 0.3, 1.5 * score**2 - 1])
    wanted = np.exp(logits) / np.exp(logits).sum(axis=0)
    inside = np.zeros(shape, bool)
    inside[2:, :-1] = True
    found = [loaded(tmp_path / "out" / f"a_probability_{name}.nii.gz") for name in ("left-part", "tumour")]
    for values, probability in zip(found, wanted[1:]):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values[inside], probability[inside], atol=1e-4)
        assert not values[~inside].any()
    label = loaded(tmp_path / "out" / "a.nii.gz")
    clear = inside & (np.sort(wanted, axis=0)[-1] - np.sort(wanted, axis=0)[-2] > 1e-3)
    assert np.array_equal(label[clear], np.array([0, 2, 7])[wanted.argmax(axis=0)][clear])
    assert not label[~inside].any()
    assert set(np.unique(label)) == {0, 2, 7}


def test_regions(tmp_path: Path) -> None:
    image = image_with_border(1, (9, 10, 11))
    write_nifti(tmp_path / "in" / "a.nii.gz", image)
    predict(tmp_path / "in" / "a.nii.gz", Pointwise(REGIONS), tmp_path / "out")
    score = normalised(image)[2:, :-1]
    whole, core = (loaded(tmp_path / "out" / f"a_probability_{name}.nii.gz")[2:, :-1] for name in ("whole", "core"))
    np.testing.assert_allclose(whole, 1 / (1 + np.exp(-score)), atol=1e-4)
    np.testing.assert_allclose(core, 1 / (1 + np.exp(0.7 - score)), atol=1e-4)
    label = loaded(tmp_path / "out" / "a.nii.gz")[2:, :-1]
    clear = (abs(whole - 0.5) > 1e-3) & (abs(core - 0.5) > 1e-3)
    wanted = np.where(score > 0.7, 2, np.where(score > 0, 1, 0))
    assert np.array_equal(label[clear], wanted[clear])


def test_blended_probabilities_sum_to_one() -> None:
    torch.manual_seed(0)

    def unsteady(windows: Tensor) -> Tensor:  # another answer in every window
        return torch.randn(len(windows), 4, 8, 8, 8).softmax(dim=1)

    blended = sliding_window(torch.randn(1, 21, 9, 12), (8, 8, 8), unsteady, [0.0], 0.6)
    torch.testing.assert_close(blended.sum(dim=0), torch.ones(21, 9, 12))
    assert blended.min() >= 0


def test_a_volume_smaller_than_the_window_is_padded_with_background(tmp_path: Path) -> None:
    image = np.full((5, 6, 4), 10, np.float32)
    image[::2] = 30
    write_nifti(tmp_path / "a.nii.gz", image)
    model = Pointwise(CLASSES)
    predict(tmp_path / "a.nii.gz", model, tmp_path / "out", maps=False)
    (window,) = model.seen
    assert window.shape == (1, 1, 8, 8, 8)
    mean, deviation = image.mean(), image.std()
    outside = np.ones((8, 8, 8), bool)
    outside[1:6, 1:7, 2:6] = False
    assert np.allclose(window[0, 0].numpy()[outside], -mean / deviation)
    np.testing.assert_allclose(window[0, 0, 1:6, 1:7, 2:6].numpy(), (image - mean) / deviation, atol=1e-5)
    assert loaded(tmp_path / "out" / "a.nii.gz").shape == (5, 6, 4)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.nii.gz"]


def test_a_4d_file_and_channel_files_give_the_same(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(50, 9, (9, 10, 8, 2)).astype(np.float32)
    write_nifti(tmp_path / "in" / "a.nii.gz", image)
    for channel in range(2):
        write_nifti(tmp_path / "files" / f"a_000{channel}.nii.gz", image[..., channel])
    model = Pointwise(CLASSES, ("T1", "FLAIR"))
    predict(tmp_path / "in", model, tmp_path / "one")
    predict(tmp_path / "files", model, tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["a.nii.gz", "a_probability_left-part.nii.gz", "a_probability_tumour.nii.gz"]
    for name in names:
        assert np.array_equal(loaded(tmp_path / "one" / name), loaded(tmp_path / "two" / name))


def test_names_with_dots_stay_whole(tmp_path: Path) -> None:
    write_nifti(tmp_path / "sub-1.v2.nii.gz", np.ones((8, 8, 8), np.float32))
    assert predict(tmp_path / "sub-1.v2.nii.gz", Pointwise(CLASSES), tmp_path / "o").name == "sub-1.v2.nii.gz"


def test_voxels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", np.full((4, 4, 4), np.inf, np.float32))
    with pytest.raises(DataError, match=r"a\.nii\.gz: 64 of 64 voxels"):
        predict(tmp_path / "a.nii.gz", Pointwise(CLASSES), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_structures_get_files_of_their_own() -> None:
    assert file_words(["GTV n", "GTV-n", "gtv/N", "Größe", "../x"]) == [
        "GTV-n",
        "GTV-n-2",
        "gtv-N-3",
        "Größe",
        "---x",
    ]


def test_flips_average_over_the_mirror_axes() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1)  # not symmetric
    model = cast(
        Model,
        SimpleNamespace(
            network=SimpleNamespace(segment=network),
            plan=SimpleNamespace(device="cpu", precision="fp32", mirror_axes=(0, 2)),
            scheme=CLASSES,
        ),
    )
    image = torch.randn(2, 1, 5, 6, 7)
    with torch.no_grad():
        found, plain = Model.predict(model, image, True), Model.predict(model, image, False)
        total = torch.zeros(2, 3, 5, 6, 7)
        for count in range(3):
            for axes in combinations((2, 4), count):
                total += network(image.flip(axes)).softmax(dim=1).flip(axes)
        turned = Model.predict(model, image.flip(2), True).flip(2)
        other = Model.predict(model, image.flip(3), True).flip(3)
    torch.testing.assert_close(found, total / 4)
    torch.testing.assert_close(plain, network(image).softmax(dim=1).detach())
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 5, 6, 7))
    torch.testing.assert_close(turned, found)  # the mirrored patient gets the mirrored prediction
    assert not torch.allclose(other, found)  # y is no mirror axis


def test_a_scan_of_other_spacing_is_brought_to_that_of_training_and_back(tmp_path: Path) -> None:
    image = np.random.default_rng(1).standard_normal((12, 12, 12)).astype(np.float32) + 3
    write_nifti(tmp_path / "scan.nii.gz", image.repeat(2, 0).repeat(2, 1).repeat(2, 2), np.diag([0.5, 0.5, 0.5, 1]))
    write_nifti(tmp_path / "same.nii.gz", image, np.eye(4))
    model = Pointwise(CLASSES)
    model.preparation = Preparation(uniform=(1, 1, 1))
    like = Ensemble((cast(Model, model),))
    told = {
        name: like.resampled(like.prepare(one(tmp_path / f"{name}.nii.gz", model))) for name in ("scan", "same")
    }
    assert told["same"] is None
    assert told["scan"] is not None
    assert "has voxels of 0.5 x 0.5 x 0.5 mm; resampled to the 1 x 1 x 1 mm of all training images" in told["scan"]
    found = loaded(predict(tmp_path / "scan.nii.gz", model, tmp_path / "a", maps=False))
    assert found.shape == (24, 24, 24)
    # What the network saw is the size of what it knows: 12 voxels a side, in windows of 8.
    assert {tuple(windows.shape[2:]) for windows in model.seen} == {(8, 8, 8)}
    seen = sum(len(windows) for windows in model.seen)
    model.seen.clear()
    predict(tmp_path / "same.nii.gz", model, tmp_path / "b", maps=False)
    assert seen == sum(len(windows) for windows in model.seen)


def test_members_of_before_and_of_now_see_the_same_voxels(tmp_path: Path) -> None:
    """One run noted what spacing its images had, the other is older; blocks of the two are added."""
    image = np.random.default_rng(1).standard_normal((20, 18, 16)).astype(np.float32) + 3
    write_nifti(tmp_path / "scan.nii.gz", image, np.diag([0.5, 0.5, 0.5, 1]))
    old, new, near = Pointwise(CLASSES), Pointwise(CLASSES), Pointwise(CLASSES)
    new.preparation = Preparation(uniform=(1, 1, 1))
    near.preparation = Preparation(uniform=(1.0001, 1, 1))
    alone = Ensemble((cast(Model, new),))
    item = one(tmp_path / "scan.nii.gz", new)
    wanted = {str(place): block for place, block in alone.blocks(alone.prepare(item), False)}
    for members in ((old, new), (new, old), (near, old, near)):
        like = Ensemble(tuple(cast(Model, member) for member in members))
        prepared = like.prepare(item)
        assert {part.image.shape for part in prepared} == {(1, 10, 9, 8)}
        assert like.resampled(prepared) is not None
        found = {str(place): block for place, block in like.blocks(prepared, False)}
        assert found.keys() == wanted.keys()
        for place, block in found.items():
            torch.testing.assert_close(block, wanted[place])


def test_what_an_image_becomes_counts_in_what_is_needed(tmp_path: Path) -> None:
    write_nifti(tmp_path / "thick.nii.gz", np.zeros((8, 6, 5), np.float32), np.diag([1.0, 1.0, 4.0, 1.0]))
    files = [(tmp_path / "thick.nii.gz",)]
    assert volumes_of(files)[0].voxels == 240
    assert volumes_of(files, Preparation(uniform=(1, 1, 1)))[0].shape == (8, 6, 20)
    assert volumes_of(files, Preparation(uniform=(4, 4, 4)))[0].voxels == 240  # as it is read
