"""Only patches that the loss looks at are encoded, and it is the loss of all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from frugalseg.networks import BranchInput, Encoder
from frugalseg.objectives import Batch, CpcSettings, Shapes
from frugalseg.objectives.across import Share, sharing
from frugalseg.objectives.cpc import ContrastivePredictiveCoding
from frugalseg.objectives.cpc_roles import draw_negatives

CROP = (16, 40, 16)
SETTINGS = [
    {},
    {"direction": "lower", "axis": "z"},
    {"negatives": 3},
    {"negatives": 4000},
    {"gap": "published"},
    {"pattern": "ichimatsu"},
    {"negatives_from": "batch"},
    {"negatives_from": "batch", "negatives": 60, "pattern": "ichimatsu"},
]


def branch_of(settings: dict[str, Any]) -> ContrastivePredictiveCoding:
    torch.manual_seed(0)
    full = CpcSettings.model_validate({"patch": (8, 8, 8), "blocks": 1, **settings})
    shapes = Shapes(1, CROP, ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)), (8, 16, 32, 64), 8, 1, 2)
    return full.build(shapes).double()


def looked_at(branch: ContrastivePredictiveCoding, keys: Tensor) -> Tensor:
    """The encodings that the loss has a gradient for, found by asking autograd for it: (B, places)."""
    torch.manual_seed(1)
    grid = torch.randn(len(keys), 64, *branch.layout.grid, dtype=torch.float64, requires_grad=True)
    out = {"encodings": grid, "prediction": branch.predict(branch.roles(grid).context)}
    batch = Batch(torch.zeros(len(keys), 1, 1, 1, 1), torch.zeros(1), torch.zeros(1), keys, keys, 0)
    branch.loss(out, batch)["info_nce"].backward()
    assert grid.grad is not None
    return grid.grad.abs().amax(dim=1).flatten(1) > 0


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_needed_are_exactly_those_that_get_a_gradient(settings: dict[str, Any]) -> None:
    branch = branch_of(settings)
    keys = torch.tensor([11, 5, 902])
    found = torch.zeros(3 * branch.layout.patches, dtype=torch.bool)
    found[branch.needed.indices(keys)] = True
    assert torch.equal(found.view(3, -1), looked_at(branch, keys))
    if settings != {"gap": "published"} and settings.get("negatives") != 4000:
        assert not found.all()
    assert found.sum() <= 3 * branch.needed.most
    assert len(branch.needed.indices(keys, most=True).unique()) == 3 * branch.needed.most


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_loss_and_its_gradient_are_those_of_all_patches(settings: dict[str, Any]) -> None:
    branch = branch_of(settings)
    encoder = Encoder(1, 8, dropout=0.2).double().train()
    image = torch.randn(2, 1, *CROP, dtype=torch.float64)
    keys = torch.tensor([7, 8])
    batch = Batch(image, torch.zeros(1), torch.zeros(1), keys, keys, 0)
    results = []
    for training in (True, False):  # all patches are encoded where nothing is trained
        branch.train(training)
        encoder.zero_grad()
        loss = branch.loss(branch(BranchInput(image, [], encoder, keys)), batch)["info_nce"]
        loss.backward()
        results.append([loss.detach(), *(p.grad.clone() for p in encoder.parameters() if p.grad is not None)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_quarter_of_the_hippocampus_crops_patches_is_saved() -> None:
    shapes = Shapes(1, (40, 56, 40), ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)), (8, 16, 32, 64), 8, 1, 2)
    branch = CpcSettings().build(shapes)
    keys = torch.arange(200)
    assert branch.layout.patches == 96
    assert len(branch.needed.indices(keys)) / 200 == pytest.approx(64 + 32 * 20 / 64, abs=0.5)


def test_with_two_processes_each_needs_what_one_would(monkeypatch: pytest.MonkeyPatch) -> None:
    branch = branch_of({"negatives_from": "batch"})
    keys = torch.tensor([3, 4, 5])
    patches = branch.layout.patches
    alone = torch.zeros(3 * patches, dtype=torch.bool)
    alone[branch.needed.indices(keys)] = True
    monkeypatch.setattr("frugalseg.objectives.cpc_roles.all_rows", lambda rows: keys)
    for rank in range(2):
        with sharing(Share(rank, 2)):
            own = keys[rank::2]
            found = torch.zeros(len(own) * patches, dtype=torch.bool)
            found[branch.needed.indices(own)] = True
        assert torch.equal(found.view(-1, patches), alone.view(3, -1)[rank::2])


def test_draws_are_different_candidates_and_a_function_of_the_key() -> None:
    drawn = draw_negatives(torch.tensor([1, 2, 1]), 50, 20)
    assert drawn.shape == (3, 20)
    assert all(len(row.unique()) == 20 for row in drawn)
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert draw_negatives(torch.tensor([1, 2]), 3, 20, images=2).shape == (2, 6)
