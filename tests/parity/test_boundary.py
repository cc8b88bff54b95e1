"""The boundary branch gives the published code's edges, gated stream, logits and soft Dice.

Its cross-entropy is compared with the published formula applied to aligned logits; what the published code itself
returns (`bce_reference`) pairs neighbouring voxels by a wrong reshape and has no gradient.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from frugalseg.networks import BranchInput, NetworkSettings, build_network
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import (
    Batch,
    BoundarySettings,
    BoundaryStream,
    SegmentationLoss,
    SegmentationSettings,
    Shapes,
)
from frugalseg.objectives.boundary import balanced_cross_entropy, find_edges
from frugalseg.objectives.segmentation import soft_dice_loss
from tests.parity.goldens import FEATURES, LOSSES, Goldens, count, no_encoder

SIDES = (16, 24, 16)
KERNELS = [(3, 3, 3)] * 4


@pytest.fixture(scope="module")
def goldens() -> Goldens:
    return Goldens("boundary")


def shapes(width: int = 8) -> Shapes:
    return Shapes(4, SIDES, PUBLISHED_STRIDES, (width, 2 * width, 4 * width, 8 * width), width, 3, 2)


def inputs(goldens: Goldens) -> BranchInput:
    features = [goldens[f"feature{level}"] for level in range(4)]
    return BranchInput(torch.zeros(1, 4, *SIDES), features, no_encoder, torch.zeros(1).long())


def batch_of(goldens: Goldens, branch: BoundaryStream) -> Batch:
    """Return the batch that a loader would make of the stored label."""
    nested = goldens["nested_label"][0].numpy().astype(np.uint8)
    extra = {name: torch.from_numpy(array)[None] for name, array in branch.target(nested, (1, 1, 1)).items()}
    ones = torch.ones(1, 1, *SIDES)
    first = torch.zeros(1).long()
    return Batch(torch.zeros(1, 4, *SIDES), torch.from_numpy(nested)[None], ones, first, first, 1, extra)


def test_stream_edge_logits_and_the_decoder_that_sees_them(goldens: Goldens) -> None:
    branch = BoundarySettings().build(shapes())
    net = build_network(NetworkSettings(), 4, 6, PUBLISHED_STRIDES, KERNELS, {"edges": branch}, 8).eval()
    goldens.load(branch, "boundary")
    goldens.load(net.decoder, "decoder", net.head)
    with torch.no_grad():
        out = branch(inputs(goldens))
        decoded = net.decoder(inputs(goldens).features)
        logits = net.head(torch.cat([decoded, out["head"]], dim=1))
    torch.testing.assert_close(out["head"], goldens["boundary_features"], **FEATURES)
    torch.testing.assert_close(out["edge_logits"], goldens["edge_logits"], **FEATURES)
    torch.testing.assert_close(logits, goldens["logits"], **FEATURES)


def test_edge_target_of_a_crop(goldens: Goldens) -> None:
    branch = BoundarySettings(beyond="published").build(shapes())
    edges = branch.target(goldens["nested_label"][0].numpy().astype(np.uint8), (1.0, 1.0, 1.0))["edges"]
    assert np.array_equal(edges, goldens["edge_target"][0, 1:].numpy())
    background = (goldens["label"].numpy() == 0)[None]
    assert np.array_equal(find_edges(background, beyond=False)[0], goldens["edge_target"][0, 0].numpy())


def test_edges_of_a_volume() -> None:
    goldens = Goldens("preprocess")
    label = goldens["edges/label"].numpy()
    masks = np.concatenate([(label == 0)[None], goldens["edges/nested"].numpy() > 0])
    wanted = goldens["edges/edge"].numpy()
    assert np.array_equal(find_edges(masks, beyond=False), wanted)
    # By default a structure that touches the border has no edge there, and nothing else changes.
    inner = (slice(None), *[slice(1, -1)] * 3)
    assert np.array_equal(find_edges(masks)[inner], wanted[inner])
    assert find_edges(masks).sum() < wanted.sum()


def losses_of(goldens: Goldens, balance: Literal["rare", "published"]) -> tuple[Tensor, Tensor]:
    """Return soft Dice and cross-entropy of each region."""
    logits = goldens["edge_logits"].reshape(1, 3, 2, *SIDES)
    edges = goldens["edge_target"][:, 1:].long()
    weight = torch.ones(1, 3, *SIDES)
    log_p = logits.log_softmax(dim=2)
    return soft_dice_loss(log_p.exp(), edges, weight), balanced_cross_entropy(log_p, edges, weight, balance)


def test_losses_of_each_region(goldens: Goldens) -> None:
    dice, entropy = losses_of(goldens, "rare")
    torch.testing.assert_close(dice, goldens["edge_dice"], **LOSSES)
    wanted = goldens["bce_aligned_edge_weight_is_background_fraction"].float()
    torch.testing.assert_close(entropy, wanted, **LOSSES)
    _, entropy = losses_of(goldens, "published")
    wanted = goldens["bce_aligned_edge_weight_is_edge_fraction"].float()
    torch.testing.assert_close(entropy, wanted, **LOSSES)
    assert (entropy - goldens["bce_reference"]).abs().max() > 1e-3


def test_losses_as_they_are_trained(goldens: Goldens) -> None:
    branch = BoundarySettings(beyond="published").build(shapes())
    batch = batch_of(goldens, branch)
    terms = branch.loss({"edge_logits": goldens["edge_logits"]}, batch)
    torch.testing.assert_close(terms["edge_dice"], goldens["edge_dice"].sum(), **LOSSES)
    wanted = goldens["bce_aligned_edge_weight_is_background_fraction"].sum().float()
    torch.testing.assert_close(terms["edge_cross_entropy"], wanted, **LOSSES)
    published = BoundarySettings(beyond="published", balance="published").build(shapes())
    terms = published.loss({"edge_logits": goldens["edge_logits"]}, batch)
    wanted = goldens["bce_aligned_edge_weight_is_edge_fraction"].sum().float()
    torch.testing.assert_close(terms["edge_cross_entropy"], wanted, **LOSSES)


def test_segmentation_loss_beside_it(goldens: Goldens) -> None:
    batch = batch_of(goldens, BoundarySettings().build(shapes()))
    loss = SegmentationLoss(SegmentationSettings(), 3, 2)
    terms = loss(goldens["logits"], batch)
    total = sum(loss.weights[name] * value for name, value in terms.items())
    torch.testing.assert_close(total, goldens["seg_loss"].sum(), **LOSSES)
    whole = goldens["seg_loss"].sum() + goldens["edge_dice"].sum() + goldens["bce_reference"].sum()
    torch.testing.assert_close(whole, goldens["total_reference"], **LOSSES)


def test_parameter_counts_of_the_paper_at_width_32() -> None:
    with torch.device("meta"):
        branch = BoundarySettings().build(shapes(32))
        net = build_network(NetworkSettings(), 4, 6, PUBLISHED_STRIDES, KERNELS, {"edges": branch}, 32)
    assert count(branch) == 2_108_842
    assert count(net.decoder) + count(net.head) == 1_206_182
