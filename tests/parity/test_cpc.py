"""Contrastive predictive coding: forward values of the published code, and the gradients it should have had."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from frugalseg.networks import BranchInput, Encoder
from frugalseg.objectives.cpc import (
    ContrastivePredictiveCoding,
    CpcSettings,
    cut_patches,
    info_nce_loss,
    info_nce_scores,
)
from frugalseg.objectives.cpc_layout import Layout
from frugalseg.objectives.cpc_roles import assign_roles
from tests.parity.goldens import FEATURES, GRADIENTS, LOSSES, Goldens

NETWORK_TASKS = [
    ("grid32", "updown_upper"),
    ("grid32", "updown_lower"),
    ("grid8", "updown_upper"),
    ("grid8", "updown_lower"),
    ("grid8", "ichimatsu"),
]
BARE_TASKS = [
    ("paper_grid", "updown_upper"),
    ("paper_grid", "updown_lower"),
    ("paper_grid", "ichimatsu"),
    ("even_grid", "updown_upper"),
    ("even_grid", "updown_lower"),
]


@pytest.fixture(scope="module")
def goldens() -> Goldens:
    return Goldens("cpc")


def roles_of(task: str, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pattern, _, direction = task.partition("_")
    return assign_roles(grid, grid.shape[-1] // 2, pattern, direction or "upper")


def published_loss(task: str, grid: Tensor, prediction: Tensor, selection: Tensor) -> tuple[Tensor, Tensor]:
    _, targets, candidates = roles_of(task, grid)
    negatives = candidates[:, :, selection.long()]
    scores = info_nce_scores(prediction.flatten(2), targets.flatten(2), negatives, None)
    return scores, info_nce_loss(scores)


@pytest.mark.parametrize("case", ["grid32", "grid8"])
def test_patches_and_encodings(goldens: Goldens, case: str) -> None:
    side = int(case.removeprefix("grid"))
    image = goldens[f"{case}/image_x4"].float() * 0.25
    patches = cut_patches(image, (side,) * 3, (side // 2,) * 3)
    assert torch.equal(patches[0], goldens[f"{case}/patches_x4"].float() * 0.25)
    encoder = Encoder(4, 8).eval()
    Goldens("encoder").load(encoder, "encoder")
    sides = goldens[f"{case}/encoding_grid"].shape[2:]
    layout = Layout((side,) * 3, (side // 2,) * 3, (sides[0], sides[1], sides[2]), 2, sides[2] // 2)
    branch = ContrastivePredictiveCoding(CpcSettings(chunk=5), layout, 64).eval()
    with torch.no_grad():
        out = branch(BranchInput(image, [], lambda x, keys: encoder(x, keys), torch.zeros(1, dtype=torch.long)))
    torch.testing.assert_close(out["encodings"], goldens[f"{case}/encoding_grid"], **FEATURES)


@pytest.mark.parametrize(("case", "task"), NETWORK_TASKS)
def test_predictions_scores_and_loss(goldens: Goldens, case: str, task: str) -> None:
    grid = goldens[f"{case}/encoding_grid"]
    sides = (grid.shape[2], grid.shape[3], grid.shape[4])
    branch = ContrastivePredictiveCoding(CpcSettings(), Layout((8,) * 3, (4,) * 3, sides, 2, 1), 64).eval()
    goldens.load(branch, "predictor")
    with torch.no_grad():
        prediction = branch.predict(roles_of(task, grid)[0])
    torch.testing.assert_close(prediction, goldens[f"{case}/{task}/prediction"], **FEATURES)
    stored = goldens[f"{case}/{task}/prediction"]
    scores, loss = published_loss(task, grid, stored, goldens[f"{case}/{task}/selection"])
    if f"{case}/{task}/scores" in goldens.arrays:
        torch.testing.assert_close(scores[0], goldens[f"{case}/{task}/scores"].reshape(scores[0].shape), **FEATURES)
    torch.testing.assert_close(loss[0], goldens[f"{case}/{task}/loss"], **LOSSES)


@pytest.mark.parametrize(("case", "task"), BARE_TASKS)
def test_loss_and_its_gradients(goldens: Goldens, case: str, task: str) -> None:
    grid = goldens[f"{case}/encoding_grid"].requires_grad_()
    prediction = goldens[f"{case}/{task}/prediction"].requires_grad_()
    _, loss = published_loss(task, grid, prediction, goldens[f"{case}/{task}/selection"])
    torch.testing.assert_close(loss[0], goldens[f"{case}/{task}/loss"], **LOSSES)
    loss.sum().backward()
    assert grid.grad is not None
    assert prediction.grad is not None
    torch.testing.assert_close(
        prediction.grad, goldens[f"{case}/{task}/grad_prediction"].to(torch.float32), **GRADIENTS
    )
    torch.testing.assert_close(
        grid.grad, goldens[f"{case}/{task}/grad_encoding_grid"].to(torch.float32), **GRADIENTS
    )


def test_predictor_parameter_count_of_the_paper() -> None:
    with torch.device("meta"):
        layout = Layout((32,) * 3, (16,) * 3, (8, 8, 7), 2, 3)
        branch = ContrastivePredictiveCoding(CpcSettings(), layout, 256)
    assert sum(parameter.numel() for parameter in branch.parameters()) == 28_389_632
