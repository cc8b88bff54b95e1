"""The VAE branch gives the published code's code, reconstruction and losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from frugalseg.networks import BranchInput
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import (
    Batch,
    SegmentationLoss,
    SegmentationSettings,
    Shapes,
    VaeSettings,
    VariationalAutoEncoder,
)
from frugalseg.objectives.vae import draw_code
from frugalseg.training.total import Objectives
from tests.parity.goldens import FEATURES, LOSSES, Goldens, count, no_encoder

CROP = (32, 48, 32)


@pytest.fixture(scope="module")
def goldens() -> Goldens:
    return Goldens("vae")


@pytest.fixture
def branch(goldens: Goldens) -> VariationalAutoEncoder:
    branch = VaeSettings().build(Shapes(4, CROP, PUBLISHED_STRIDES, (8, 16, 32, 64), 8, 3, 2))
    goldens.load(branch.embedder, "embedder")
    goldens.load(branch.decoder, "vae")
    return branch.eval()


def output(goldens: Goldens) -> dict[str, Tensor]:
    return {name: goldens[name] for name in ("mu", "logvar", "reconstruction")}


def batch_of(goldens: Goldens) -> Batch:
    image = goldens["image"]
    zeros = torch.zeros(1, 1, *CROP, dtype=torch.uint8)
    return Batch(image, zeros, zeros, torch.zeros(1).long(), torch.zeros(1).long(), 1)


def test_code_and_reconstruction(goldens: Goldens, branch: VariationalAutoEncoder) -> None:
    with torch.no_grad():
        mu, logvar = branch.embedder(goldens["feature3"])
        torch.testing.assert_close(mu, goldens["mu"], **FEATURES)
        torch.testing.assert_close(logvar, goldens["logvar"], **FEATURES)
        z = draw_code(goldens["mu"], goldens["logvar"], goldens["eps"])
        torch.testing.assert_close(z, goldens["z"], **FEATURES)
        image = branch.decoder(goldens["z"], branch.sides)
    torch.testing.assert_close(image, goldens["reconstruction"], **FEATURES)


def test_losses_and_their_published_weights(goldens: Goldens, branch: VariationalAutoEncoder) -> None:
    batch, out = batch_of(goldens), output(goldens)
    terms = branch.loss(out, batch)
    torch.testing.assert_close(terms["mse"], goldens["mse"], **LOSSES)
    torch.testing.assert_close(terms["kl"], goldens["kl"], **LOSSES)
    objectives = Objectives(SegmentationLoss(SegmentationSettings(), 1, 2), {"vae": branch}, {"vae": 1.0})
    named = {f"vae.{name}": tensor for name, tensor in out.items()}
    total = objectives({"logits": torch.zeros(1, 2, *CROP), **named}, batch).totals["vae"]
    torch.testing.assert_close(total, goldens["weighted"], **LOSSES)


def test_the_whole_branch_in_evaluation_decodes_the_mean(goldens: Goldens, branch: VariationalAutoEncoder) -> None:
    with torch.no_grad():
        out = branch(BranchInput(goldens["image"], [goldens["feature3"]], no_encoder, torch.zeros(1).long()))
        torch.testing.assert_close(out["mu"], goldens["mu"], **FEATURES)
        torch.testing.assert_close(out["logvar"], goldens["logvar"], **FEATURES)
        torch.testing.assert_close(out["z"], goldens["mu"], **FEATURES)
        wanted = branch.decoder(goldens["mu"], branch.sides)
    torch.testing.assert_close(out["reconstruction"], wanted, **FEATURES)


@pytest.mark.parametrize(
    ("crop", "embedder", "decoder"),
    [((160, 192, 128), 4_043_536, 3_191_716), ((144, 144, 128), 2_765_584, 2_547_748)],
)
def test_parameter_counts_of_the_paper_at_width_32(crop: tuple[int, int, int], embedder: int, decoder: int) -> None:
    with torch.device("meta"):
        branch = VaeSettings().build(Shapes(4, crop, PUBLISHED_STRIDES, (32, 64, 128, 256), 32, 3, 2))
    assert count(branch.embedder) == embedder
    assert count(branch.decoder) == decoder
