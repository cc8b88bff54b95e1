"""The VAE branch: hand-worked losses, gradients, masks, noise by key, any shape, what an unlabelled step trains."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from frugalseg.networks import BranchInput, Encoder, MultiTaskNetwork, NetworkSettings, build_network
from frugalseg.networks.blocks import Triple
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.networks.keyed import keyed_normal
from frugalseg.objectives import Batch, SegmentationLoss, SegmentationSettings, Shapes, VaeSettings
from frugalseg.objectives.vae import VariationalAutoEncoder, code_sides, divergence, draw_code, squared_error
from frugalseg.training.total import Objectives

CROP = (16, 32, 16)
SMALL = VaeSettings(latent=5)


def shapes(crop: Triple = CROP, channels: int = 2) -> Shapes:
    return Shapes(channels, crop, PUBLISHED_STRIDES, (8, 16, 32, 64), 8, 1, 2)


def network(settings: VaeSettings = SMALL, crop: Triple = CROP) -> tuple[MultiTaskNetwork, VariationalAutoEncoder]:
    torch.manual_seed(3)
    branch = settings.build(shapes(crop))
    return build_network(NetworkSettings(), 2, 2, PUBLISHED_STRIDES, [(3, 3, 3)] * 4, {"vae": branch}, 8), branch


def batch_of(count: int, labelled: int = 0, crop: Triple = CROP) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(count, 2, *crop, generator=generator)
    target = torch.randint(0, 2, (count, 1, *crop), generator=generator).to(torch.uint8)
    weight = torch.zeros(count, 1, *crop, dtype=torch.uint8)
    weight[:labelled] = 1
    return Batch(image, target, weight, torch.arange(count) + 11, torch.arange(count), max(1, labelled))


def objectives(branch: VariationalAutoEncoder) -> Objectives:
    return Objectives(
        SegmentationLoss(SegmentationSettings(), 1, 2), {"vae": branch}, {"vae": branch.settings.weight}
    )


def test_divergence_by_hand_and_its_least_value() -> None:
    mu, logvar = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(4)]])
    # KL(N(1, 1) || N(0, 1)) = 1/2; KL(N(0, 4) || N(0, 1)) = (4 - 1 - log 4) / 2.
    wanted = (0.5 + (3 - math.log(4)) / 2) / 2
    torch.testing.assert_close(divergence(mu, logvar), torch.tensor([wanted]))
    zeros = torch.zeros(1, 7)
    assert float(divergence(zeros, zeros)) == 0
    assert float(divergence(zeros + 0.1, zeros)) > 0
    assert float(divergence(zeros, zeros - 0.1)) > 0


def test_divergence_is_the_expected_difference_of_log_densities() -> None:
    mu, logvar = torch.tensor([[0.7, -1.1]], dtype=torch.float64), torch.tensor([[0.4, -0.9]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    eps = torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    z = draw_code(mu, logvar, eps)
    inner = torch.distributions.Normal(mu, (logvar / 2).exp()).log_prob(z)
    outer = torch.distributions.Normal(0.0, 1.0).log_prob(z)
    assert abs(float((inner - outer).mean()) - float(divergence(mu, logvar))) < 0.01


def test_squared_error_by_hand_counts_only_voxels_inside() -> None:
    image = torch.zeros(2, 2, 1, 1, 3)
    reconstruction = torch.zeros(2, 2, 1, 1, 3)
    reconstruction[0, 0, 0, 0] = torch.tensor([1.0, 2.0, 100.0])
    reconstruction[0, 1, 0, 0] = torch.tensor([0.0, 3.0, 100.0])
    inside = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).reshape(2, 1, 1, 1, 3)
    wanted = torch.tensor([(1 + 4 + 0 + 9) / 4, 0.0])
    torch.testing.assert_close(squared_error(reconstruction, image, inside), wanted)


def test_filling_has_no_part_in_value_or_gradient() -> None:
    _, branch = network()
    batch = batch_of(2)
    inside = torch.ones(2, 1, *CROP, dtype=torch.uint8)
    inside[0, ..., 10:] = 0
    batch = replace(batch, inside=inside)
    reconstruction = torch.randn(2, 2, *CROP, requires_grad=True)
    out = {"mu": torch.zeros(2, 5), "logvar": torch.zeros(2, 5), "reconstruction": reconstruction}
    loss = branch.loss(out, batch)["mse"]
    error = (reconstruction - batch.image).square()
    torch.testing.assert_close(loss, (error[0, ..., :10].mean() + error[1].mean()) / 2)
    loss.backward()
    assert reconstruction.grad is not None
    assert reconstruction.grad[0, ..., 10:].abs().sum() == 0
    assert reconstruction.grad[0, ..., :10].abs().min() > 0


def test_a_sample_without_a_voxel_inside_counts_in_no_mean() -> None:
    _, branch = network()
    batch = batch_of(2)
    inside = torch.ones(2, 1, *CROP)
    inside[1] = 0
    out = {
        "mu": torch.tensor([[1.0] * 5, [9.0] * 5]),
        "logvar": torch.zeros(2, 5),
        "reconstruction": torch.zeros(2, 2, *CROP),
    }
    terms = branch.loss(out, replace(batch, inside=inside))
    torch.testing.assert_close(terms["kl"], torch.tensor(0.5))
    torch.testing.assert_close(terms["mse"], batch.image[0].square().mean())
    none = branch.loss(out, replace(batch, inside=torch.zeros_like(inside)))
    assert float(none["kl"]) == float(none["mse"]) == 0


def test_gradient_against_finite_differences() -> None:
    torch.manual_seed(0)
    small = Shapes(1, (4, 4, 6), ((1, 1, 1), (2, 2, 2)), (8, 8), 8, 1, 2)
    branch = VaeSettings(latent=3).build(small).double()
    features = [torch.randn(2, 8, 4, 4, 6).double(), torch.randn(2, 8, 2, 2, 3, dtype=torch.float64)]
    image = torch.randn(2, 1, 4, 4, 6, dtype=torch.float64)
    inside = (torch.rand(2, 1, 4, 4, 6) > 0.3).double()
    keys = torch.tensor([3, 4])
    batch = Batch(image, inside, inside, keys, keys, 0, inside=inside)

    def loss(deepest: Tensor) -> Tensor:
        out = branch(BranchInput(image, [features[0], deepest], lambda x, k: [], keys))
        terms = branch.loss(out, batch)
        return terms["mse"] + terms["kl"]

    assert branch.training
    assert torch.autograd.gradcheck(loss, (features[1].requires_grad_(),), eps=1e-6, atol=1e-7, rtol=1e-4)


def test_noise_is_a_function_of_the_key_alone() -> None:
    net, _ = network()
    batch = batch_of(3)
    out = net(batch.image, batch.keys, 1)
    wanted = draw_code(out["vae.mu"], out["vae.logvar"], keyed_normal(batch.keys, 5))
    torch.testing.assert_close(out["vae.z"], wanted)
    assert (out["vae.z"] - out["vae.mu"]).abs().max() > 0.1
    # Another order, another batch, another state of the global generator: the same samples get the same code.
    torch.manual_seed(99)
    order = torch.tensor([2, 0])
    again = net(batch.image[order], batch.keys[order], 1)
    torch.testing.assert_close(again["vae.z"], out["vae.z"][order])
    other = net(batch.image, batch.keys + 1, 1)
    assert not torch.allclose(other["vae.z"] - other["vae.mu"], out["vae.z"] - out["vae.mu"], atol=1e-2)


def test_without_noise_the_code_is_its_mean() -> None:
    batch = batch_of(2)
    net, _ = network(VaeSettings(latent=5, noise=False))
    out = net(batch.image, batch.keys, 1)
    assert torch.equal(out["vae.z"], out["vae.mu"])
    net, _ = network()
    out = net.eval()(batch.image, batch.keys, 1)
    assert torch.equal(out["vae.z"], out["vae.mu"])


ANISOTROPIC = ((1, 1, 1), (2, 2, 1), (2, 2, 2))
FLAT = ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 1))


def filters(module: nn.Module) -> list[Tensor]:
    """Return the weights of the residual blocks' convolutions."""
    return [weight for name, weight in module.named_parameters() if ".conv" in name and weight.ndim == 5]


@pytest.mark.parametrize(
    ("crop", "strides", "kernel", "code"),
    [
        ((16, 32, 16), PUBLISHED_STRIDES, (3, 3, 3), (1, 2, 1)),
        (
            (40, 48, 24),
            PUBLISHED_STRIDES,
            (3, 3, 3),
            (2, 3, 1),
        ),  # no multiple of 16: floor(40 / 16), floor(24 / 16)
        ((8, 8, 8), PUBLISHED_STRIDES, (3, 3, 3), (1, 1, 1)),  # the deepest map is a voxel
        ((17, 9, 12), PUBLISHED_STRIDES, (3, 3, 3), (1, 1, 1)),  # no multiple of 8
        ((16, 24, 10), ANISOTROPIC, (3, 3, 3), (2, 3, 2)),
        ((24, 32, 1), FLAT, (3, 3, 1), (1, 2, 1)),  # one slice
        ((12, 8, 4), ((1, 1, 1), (2, 2, 2)), (3, 3, 3), (3, 2, 1)),
    ],
)
def test_any_levels_strides_and_sides(
    crop: Triple, strides: tuple[Triple, ...], kernel: Triple, code: Triple
) -> None:
    widths = tuple(8 * 2**level for level in range(len(strides)))
    kernels = (kernel,) * len(strides)
    built = Shapes(3, crop, strides, widths, 8, 1, 2, kernels)
    assert code_sides(crop, built.total_stride) == code
    encoder = Encoder(3, 8, strides, kernels, (1,) * len(strides))
    branch = VaeSettings(latent=4).build(built)
    image = torch.randn(2, 3, *crop)
    features = encoder(image)
    assert [tuple(feature.shape[2:]) for feature in features] == list(built.sides)
    keys = torch.arange(2)
    out = branch(BranchInput(image, features, lambda x, k: [], keys))
    assert out["reconstruction"].shape == image.shape
    assert out["mu"].shape == out["logvar"].shape == (2, 4)
    assert branch.decoder.dense.out_features == 16 * code[0] * code[1] * code[2]
    sum(branch.loss(out, Batch(image, image, image, keys, keys, 0)).values(), torch.zeros(())).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in branch.parameters())
    assert all(weight.shape[2:] == kernel for weight in filters(branch.decoder.levels))


def test_other_sides_than_the_crops_are_refused() -> None:
    net, _ = network()
    with pytest.raises(ValueError, match="wrong sides"):
        net(torch.zeros(1, 2, 24, 32, 16), torch.zeros(1).long())
    # Prediction does not run the branch, so windows of other sides are no matter.
    assert net.segment(torch.zeros(1, 2, 24, 32, 16)).shape == (1, 2, 24, 32, 16)


def test_a_step_on_unlabelled_volumes_changes_encoder_and_vae_but_not_decoder_and_head() -> None:
    net, branch = network()
    before = copy.deepcopy(net.state_dict())
    batch = batch_of(2, labelled=0)
    terms = objectives(branch)(net(batch.image, batch.keys, batch.segmented), batch)
    assert float(terms.totals["segmentation"].detach()) == 0
    torch.stack(list(terms.totals.values())).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    same = {name for name, value in net.state_dict().items() if torch.equal(value, before[name])}
    supervised = {name for name in before if name.startswith(("decoder.", "head."))}
    assert supervised <= same
    # A bias before a normalisation of each channel by itself (8 groups of 8 channels) has no effect.
    assert all(name.endswith("conv1.bias") for name in same - supervised)


def test_unlabelled_samples_have_as_much_part_as_labelled_ones() -> None:
    net, branch = network(VaeSettings(latent=5, noise=False))
    net.eval()
    batch = batch_of(2, labelled=1)
    image = batch.image.clone().requires_grad_()
    whole = replace(batch, image=batch.image)
    out = net(image, batch.keys, 1)
    objectives(branch)(out, whole).totals["vae"].backward()
    assert image.grad is not None
    shares = image.grad.abs().sum(dim=(1, 2, 3, 4))
    assert 0.3 < float(shares[0] / shares[1]) < 3
    flipped = replace(batch, weight=1 - batch.weight)
    assert torch.equal(objectives(branch)(out, flipped).totals["vae"], objectives(branch)(out, batch).totals["vae"])


def test_training_reconstructs() -> None:
    net, branch = network()
    batch = batch_of(2)
    smooth = torch.nn.functional.avg_pool3d(batch.image, 7, 1, 3, count_include_pad=False)
    batch = replace(batch, image=smooth / smooth.std())
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    values = []
    for _ in range(15):
        optimiser.zero_grad()
        terms = objectives(branch)(net(batch.image, batch.keys, 1), batch)
        values.append(float(terms.scalars["vae.mse"].detach()))
        terms.totals["vae"].backward()
        optimiser.step()
    assert values[-1] < 0.9 * values[0]


def test_bf16_gives_finite_losses_in_float32() -> None:
    net, branch = network(crop=(24, 32, 24))
    batch = batch_of(2, crop=(24, 32, 24))
    with torch.autocast("cpu", torch.bfloat16):
        out = net(batch.image, batch.keys, 1)
        terms = branch.loss({name.removeprefix("vae."): tensor for name, tensor in out.items()}, batch)
    for value in (*terms.values(), out["vae.mu"], out["vae.logvar"], out["vae.z"]):
        assert value.dtype == torch.float32
        assert value.isfinite().all()
