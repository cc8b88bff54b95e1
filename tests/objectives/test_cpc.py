"""Contrastive predictive coding trains: its gradient is right, reaches the encoder, and uses no label."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from frugalseg.errors import UserError
from frugalseg.networks import BranchInput, MultiTaskNetwork, NetworkSettings, build_network
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import Batch, CpcSettings, Shapes
from frugalseg.objectives.base import outputs_of
from frugalseg.objectives.cpc import (
    ContrastivePredictiveCoding,
    cut_patches,
    info_nce_loss,
    info_nce_scores,
)
from frugalseg.objectives.cpc_layout import choose_layout
from frugalseg.objectives.cpc_roles import assign_roles

STRIDE = (8, 8, 8)
CROP = (16, 32, 16)
SMALL = CpcSettings(patch=(8, 8, 8), blocks=1)


def shapes(crop: tuple[int, int, int] = CROP) -> Shapes:
    return Shapes(1, crop, PUBLISHED_STRIDES, (8, 16, 32, 64), 8, 1, 2)


def network(
    settings: CpcSettings, crop: tuple[int, int, int] = CROP
) -> tuple[MultiTaskNetwork, ContrastivePredictiveCoding]:
    torch.manual_seed(3)
    branch = settings.build(shapes(crop))
    return build_network(NetworkSettings(), 1, 2, PUBLISHED_STRIDES, [(3, 3, 3)] * 4, {"cpc": branch}, 8), branch


def batch_of(count: int, crop: tuple[int, int, int] = CROP) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(count, 1, *crop, generator=generator)
    zeros = torch.zeros(count, 1, *crop, dtype=torch.uint8)
    return Batch(image, zeros, zeros, torch.arange(count) + 11, torch.arange(count), 0)


def cpc_loss(net: MultiTaskNetwork, branch: ContrastivePredictiveCoding, batch: Batch) -> Tensor:
    out = net(batch.image, batch.keys, 1)
    return branch.loss(outputs_of("cpc", out), batch)["info_nce"]


def test_hippocampus_layout_of_the_design() -> None:
    layout = choose_layout(CpcSettings(), (40, 48, 32), STRIDE)
    assert layout.patch == (16, 16, 16)
    assert layout.grid == (4, 5, 3)
    assert (layout.axis, layout.slabs, layout.gap, layout.targets) == (1, 2, 1, 24)


def test_paper_layout() -> None:
    layout = choose_layout(CpcSettings(), (144, 144, 128), STRIDE)
    assert (layout.patch, layout.grid, layout.axis, layout.slabs) == ((32, 32, 32), (8, 8, 7), 2, 3)


@pytest.mark.parametrize("side", [32, 40, 48, 56, 64, 72])
def test_default_gap_shares_no_voxel_and_the_published_one_leaks_on_even_grids(side: int) -> None:
    crop = (side, 32, 32)

    def shared(settings: CpcSettings) -> bool:
        layout = choose_layout(settings, crop, STRIDE)
        voxels = torch.arange(side * 32 * 32).reshape(1, 1, *crop).float()
        patches = cut_patches(voxels, layout.patch, layout.stride)[0].flatten(1)
        grid = patches.T.reshape(1, -1, *layout.grid).movedim(2, -1)
        roles = assign_roles(grid, layout.slabs, "updown", "upper")
        return bool(torch.isin(roles.context, roles.targets).any())

    assert not shared(CpcSettings(patch=(16, 16, 16), axis="x"))
    slabs = (side - 16) // 8 + 1
    assert shared(CpcSettings(patch=(16, 16, 16), axis="x", gap="published")) == (slabs % 2 == 0)


@pytest.mark.parametrize("crop", [(40, 48, 32), (48, 48, 48), (64, 64, 64), (96, 80, 64)])
@pytest.mark.parametrize("pattern", ["updown", "ichimatsu"])
@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_the_targets_that_a_layout_tells_are_those_that_are_predicted(
    crop: tuple[int, int, int], pattern: Literal["updown", "ichimatsu"], axis: Literal["x", "y", "z"]
) -> None:
    settings = CpcSettings(patch=(8, 8, 8), pattern=pattern, axis=axis)
    layout = choose_layout(settings, crop, (8, 8, 8))
    grid = torch.zeros(1, 1, *layout.grid).movedim(2 + layout.axis, -1)
    roles = assign_roles(grid, layout.slabs, pattern, "upper")
    assert layout.targets == roles.targets.numel() == roles.context.numel()
    assert f"{layout.targets} targets" in layout.describe()


def test_too_small_a_crop_is_refused_with_the_sizes() -> None:
    with pytest.raises(UserError, match="16x16x16"):
        choose_layout(CpcSettings(), (16, 16, 16), STRIDE)


def test_info_nce_by_hand() -> None:
    prediction = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    targets = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])
    negatives = torch.zeros(1, 2, 3)
    scores = info_nce_scores(prediction, targets, negatives, None)
    assert scores.shape == (1, 2, 5)
    # Row 0: 2 for its own target, 0 for the other four.
    wanted = -torch.log(torch.e ** torch.tensor(2.0) / (torch.e ** torch.tensor(2.0) + 4))
    torch.testing.assert_close(info_nce_loss(scores), wanted[None])


def test_cosine_scores_ignore_length_and_equal_scores_give_log_of_the_count() -> None:
    a, b, c = torch.randn(2, 4, 3), torch.randn(2, 4, 3), torch.randn(2, 4, 5)
    one = info_nce_scores(a, b, c, 0.1)
    torch.testing.assert_close(one, info_nce_scores(5 * a, 0.3 * b, 7 * c, 0.1))
    assert one.abs().max() <= 10.0001
    flat = info_nce_loss(torch.zeros(1, 6, 26))
    torch.testing.assert_close(flat, torch.log(torch.tensor([26.0])))


@pytest.mark.parametrize("similarity", ["inner", "cosine"])
@pytest.mark.parametrize("source", ["image", "batch"])
def test_gradient_against_finite_differences(similarity: str, source: str) -> None:
    settings = CpcSettings.model_validate(
        {"patch": (8, 8, 8), "blocks": 1, "similarity": similarity, "negatives_from": source, "negatives": 7}
    )
    layout = choose_layout(settings, (16, 24, 16), STRIDE)
    torch.manual_seed(0)
    branch = ContrastivePredictiveCoding(settings, layout, 8).double()
    encodings = torch.randn(2, 8, *layout.grid, dtype=torch.float64, requires_grad=True)
    keys = torch.tensor([4, 9])

    def loss(grid: Tensor) -> Tensor:
        out = {"encodings": grid, "prediction": branch.predict(branch.roles(grid).context)}
        return info_nce_loss(branch.scores(out, keys)).mean()

    assert torch.autograd.gradcheck(loss, (encodings,), eps=1e-6, atol=1e-6, rtol=1e-4)


def test_a_step_on_unlabelled_volumes_changes_encoder_and_predictor_but_not_the_decoder() -> None:
    net, branch = network(SMALL)
    before = copy.deepcopy(net.state_dict())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    cpc_loss(net, branch, batch_of(2)).backward()
    optimiser.step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("encoder.init_conv") for name in changed)
    assert any(name.startswith("encoder.levels.3") for name in changed)
    assert any(name.startswith("branches.cpc") for name in changed)
    assert not any(name.startswith(("decoder", "head")) for name in changed)


def test_labels_do_not_matter() -> None:
    net, branch = network(SMALL)
    batch = batch_of(2)
    one = cpc_loss(net, branch, batch)
    other = Batch(
        batch.image, torch.ones_like(batch.target), torch.ones_like(batch.weight), batch.keys, batch.cases, 2
    )
    assert torch.equal(one, cpc_loss(net, branch, other))


@pytest.mark.parametrize("chunk", [7, 1000])
def test_chunks_give_the_same_loss_and_gradient_with_dropout_on(chunk: int) -> None:
    results = []
    for size in (None, chunk):
        net, branch = network(SMALL.model_copy(update={"chunk": size}), (16, 24, 16))
        net.double().train()
        batch = batch_of(2, (16, 24, 16))
        loss = cpc_loss(net, branch, replace(batch, image=batch.image.double()))
        loss.backward()
        results.append((loss.detach(), [p.grad.clone() for p in net.encoder.parameters() if p.grad is not None]))
    torch.testing.assert_close(results[0][0], results[1][0])
    assert len(results[0][1]) == len(results[1][1]) > 0
    for one, other in zip(results[0][1], results[1][1]):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_training_beats_chance() -> None:
    net, branch = network(SMALL)
    batch = batch_of(2)
    batch = Batch(
        torch.nn.functional.avg_pool3d(batch.image, 5, 1, 2) * 5,
        batch.target,
        batch.weight,
        batch.keys,
        batch.cases,
        0,
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    first = None
    for _ in range(15):
        optimiser.zero_grad()
        loss = cpc_loss(net, branch, batch)
        first = float(loss.detach()) if first is None else first
        loss.backward()
        optimiser.step()
    assert first is not None
    assert float(loss.detach()) < 0.9 * first


def test_encode_is_the_shared_encoder() -> None:
    _, branch = network(SMALL)
    branch.eval()
    seen = []

    def encode(patches: Tensor, keys: Tensor) -> list[Tensor]:
        seen.append(patches.shape)
        return [torch.zeros(len(patches), 64, 1, 1, 1)]

    branch(BranchInput(torch.zeros(2, 1, *CROP), [], encode, torch.arange(2)))
    assert seen == [(2 * 3 * 7 * 3, 1, 8, 8, 8)]


def test_the_control_s_candidates_are_the_same_ones_in_another_order_for_every_crop() -> None:
    net, branch = network(SMALL)
    batch = batch_of(4)
    out = outputs_of("cpc", net(batch.image, batch.keys, 1))
    plain = branch.scores(out, batch.keys)
    control = SMALL.model_copy(update={"control": "permuted"}).build(shapes())
    mixed = control.scores(out, batch.keys)
    torch.testing.assert_close(mixed.sort(dim=2).values, plain.sort(dim=2).values)
    orders = []
    for image in range(4):
        columns = [
            int((plain[image] == mixed[image, :, place, None]).all(dim=0).nonzero())
            for place in range(plain.shape[2])
        ]
        assert sorted(columns) == list(range(plain.shape[2]))
        orders.append(tuple(columns))
    assert len({*orders, tuple(range(plain.shape[2]))}) == 5
    assert torch.equal(mixed, control.scores(out, batch.keys))


def test_the_control_cannot_be_learnt_not_even_that_a_target_is_a_target() -> None:
    """Encodings that tell their place: a predictor that knows the places is always right, there by chance."""
    branch, control = SMALL.build(shapes()), SMALL.model_copy(update={"control": "permuted"}).build(shapes())
    places = torch.eye(64)[: branch.layout.patches].T.reshape(1, 64, *branch.layout.grid).repeat(512, 1, 1, 1, 1)
    batch = batch_of(512)
    knows = {"encodings": 50 * places, "prediction": branch.roles(places).targets}
    found = {name: float(value) for name, value in branch.metrics(knows, batch).items()}
    assert found["accuracy"] == 1
    hits = float(control.metrics(knows, batch)["accuracy"])
    assert hits == pytest.approx(found["chance"], abs=0.01)
    # One that points at the targets as a whole gains, and nothing in the control.
    slab = branch.roles(places).targets.flatten(2).sum(dim=2)[:, :, None, None, None]
    points = {"encodings": 50 * places, "prediction": slab.expand_as(knows["prediction"])}
    uniform = -torch.log(torch.tensor(found["chance"]))
    assert float(branch.loss(points, batch)["info_nce"]) < uniform - 0.1
    assert float(control.loss(points, batch)["info_nce"]) > uniform


def test_levels_join_the_means_of_the_deepest_maps() -> None:
    settings = SMALL.model_copy(update={"levels": 2})
    net, _ = network(settings)
    net.eval()
    batch = batch_of(1)
    out = outputs_of("cpc", net(batch.image, batch.keys, 1))
    patch = batch.image[:, :, :8, :8, :8]
    maps = net.encoder(patch, torch.zeros(1, dtype=torch.int64))
    expected = torch.cat([level.mean(dim=(2, 3, 4)) for level in maps[-2:]], dim=1)
    torch.testing.assert_close(out["encodings"][0, :, 0, 0, 0], expected[0])
    with pytest.raises(UserError, match="5 levels of 4"):
        SMALL.model_copy(update={"levels": 5}).build(shapes())
