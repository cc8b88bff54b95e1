"""Deep supervision: losses by loops, by hand, aligned with the maps, masked; nothing of it in a prediction."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from frugalseg.config import load_config
from frugalseg.errors import ConfigError, UserError
from frugalseg.jobs.build import deployed_weights
from frugalseg.networks import MultiTaskNetwork, NetworkSettings, build_network
from frugalseg.networks.blocks import Triple
from frugalseg.networks.decoder import Skip
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import Batch, DeepSupervision, DeepSupervisionSettings, Shapes
from frugalseg.objectives.base import outputs_of
from frugalseg.objectives.deep_supervision import at_every

CROP = (8, 10, 12)
KERNELS = [(3, 3, 3)] * 4


def shapes(skip: Skip = "sum", groups: int = 1, classes: int = 3, levels: int = 4) -> Shapes:
    widths = (8, 16, 32, 64)[:levels]
    return Shapes(1, CROP, PUBLISHED_STRIDES[:levels], widths, 16 if skip == "concat" else 8, groups, classes)


def network(skip: Skip = "sum", groups: int = 1, classes: int = 3) -> tuple[MultiTaskNetwork, DeepSupervision]:
    torch.manual_seed(3)
    branch = DeepSupervisionSettings().build(shapes(skip, groups, classes))
    settings = NetworkSettings(skip=skip, dropout=0)
    outputs = groups * classes
    return build_network(settings, 1, outputs, PUBLISHED_STRIDES, KERNELS, {"deep": branch}, 8), branch


def batch_of(groups: int = 1, classes: int = 3, labelled: int = 2, count: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(count, 1, *CROP, generator=generator)
    target = torch.randint(0, classes, (count, groups, *CROP), generator=generator, dtype=torch.uint8)
    weight = torch.randint(0, 4, (count, 1, *CROP), generator=generator).clamp(max=1).to(torch.uint8)
    weight[labelled:] = 0
    numbers = torch.arange(count)
    return Batch(image, target, weight, numbers, numbers, count)


def test_losses_against_loops() -> None:
    model, branch = network(groups=2, classes=2)
    batch = batch_of(groups=2, classes=2)
    out = outputs_of("deep", model(batch.image, batch.keys))
    found = branch.loss(out, batch)
    wanted = {"dice": 0.0, "cross_entropy": 0.0}
    for level, step in ((1, 2), (2, 4)):
        logits = out[f"logits_{level}"].detach().double().numpy()
        for group in range(2):
            dices, entropies = [], []
            for sample in range(2):
                overlap, sizes = np.zeros(2), np.zeros(2)
                total = voxels = 0.0
                for x, y, z in np.ndindex(*logits.shape[2:]):
                    if not batch.weight[sample, 0, step * x, step * y, step * z]:
                        continue
                    truth = int(batch.target[sample, group, step * x, step * y, step * z])
                    pair = np.exp(logits[sample, 2 * group : 2 * group + 2, x, y, z])
                    p = pair / pair.sum()
                    total -= math.log(p[truth])
                    voxels += 1
                    sizes += p**2
                    sizes[truth] += 1
                    overlap[truth] += p[truth]
                dices.append(1 - np.mean(2 * overlap / sizes))
                entropies.append(total / voxels)
            wanted["dice"] += 0.5**level * float(np.mean(dices))
            wanted["cross_entropy"] += 0.5**level * float(np.mean(entropies))
    assert {name: float(value.detach()) for name, value in found.items()} == pytest.approx(wanted, rel=1e-4)


def test_by_hand() -> None:
    """Logits that say nothing: a cross-entropy of ln 4 at each level, which count a half and a quarter."""
    branch = DeepSupervisionSettings().build(shapes(classes=4))
    out = {"logits_1": torch.zeros(2, 4, 4, 5, 6), "logits_2": torch.zeros(2, 4, 2, 3, 3)}
    loss = branch.loss(out, batch_of(classes=4))
    assert float(loss["cross_entropy"]) == pytest.approx(0.75 * math.log(4))
    assert branch.weights == {"dice": 0.5, "cross_entropy": 0.5}


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (2, 1, 4)])
@pytest.mark.parametrize("sides", [(8, 10, 12), (7, 9, 5)])
def test_labels_lie_where_the_maps_look(stride: Triple, sides: Triple) -> None:
    """A strided convolution whose filter is its own middle picks the very voxels that are compared."""
    target = torch.arange(math.prod(sides)).reshape(1, 1, *sides)
    filter_ = torch.zeros(1, 1, 3, 3, 3)
    filter_[0, 0, 1, 1, 1] = 1
    x: Tensor = target.float()
    for _ in range(2):
        x = functional.conv3d(x, filter_, stride=stride, padding=1)
    batch = batch_of()
    twice = (stride[0] ** 2, stride[1] ** 2, stride[2] ** 2)
    found = at_every(replace(batch, target=target, weight=target), twice)
    torch.testing.assert_close(found.target.float(), x)
    torch.testing.assert_close(found.weight, found.target)


def test_gradient_by_finite_differences() -> None:
    branch = DeepSupervisionSettings(dice_weight=0.3).build(shapes())
    batch = batch_of()
    logits = [torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, requires_grad=True),
              torch.randn(2, 3, 2, 3, 3, dtype=torch.float64, requires_grad=True)]  # fmt: skip

    def total(fine: Tensor, coarse: Tensor) -> Tensor:
        found = branch.loss({"logits_1": fine, "logits_2": coarse}, batch)
        return found["dice"] * branch.weights["dice"] + found["cross_entropy"] * branch.weights["cross_entropy"]

    assert torch.autograd.gradcheck(total, logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_structures_that_were_not_annotated_are_merged_with_the_background(dtype: torch.dtype) -> None:
    """Whoever was not asked for class 2 cannot say whether a voxel is background or class 2."""
    branch = DeepSupervisionSettings().build(shapes())
    batch = batch_of()
    some = replace(batch, target=batch.target.clamp(max=1), annotated=torch.tensor([[1, 1, 0]] * 2))
    likely = torch.zeros(2, 3, 4, 5, 6, dtype=dtype)
    likely[:, 2] = 8  # says class 2 everywhere
    coarse = torch.zeros(2, 3, 2, 3, 3, dtype=dtype)
    coarse[:, 2] = 8
    out = {"logits_1": likely, "logits_2": coarse}
    moved = {name: tensor.roll(1, dims=1) for name, tensor in out.items()}  # says background everywhere
    for name, value in branch.loss(out, some).items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, branch.loss(moved, some)[name])
    assert branch.loss(out, batch)["cross_entropy"] != branch.loss(moved, batch)["cross_entropy"]


def test_samples_without_a_label_have_no_part() -> None:
    model, branch = network()
    batch = batch_of(labelled=1)
    out = {name: tensor.detach().requires_grad_() for name, tensor in
           outputs_of("deep", model(batch.image, batch.keys)).items()}  # fmt: skip
    sum(branch.loss(out, batch).values(), start=torch.zeros(())).backward()
    for tensor in out.values():
        assert tensor.grad is not None
        assert tensor.grad[1].abs().sum() == 0 < tensor.grad[0].abs().sum()
    alone = {name: tensor[:1] for name, tensor in out.items()}
    first = Batch(batch.image[:1], batch.target[:1], batch.weight[:1], batch.keys[:1], batch.cases[:1], 1)
    for name, value in branch.loss(alone, first).items():
        torch.testing.assert_close(value, branch.loss(out, batch)[name])
    nothing = branch.loss(out, batch_of(labelled=0))
    assert all(float(value.detach()) == 0 for value in nothing.values())


def test_it_reaches_all_levels_but_the_finest() -> None:
    model, branch = network()
    batch = batch_of()
    losses = branch.loss(outputs_of("deep", model(batch.image, batch.keys)), batch)
    (losses["dice"] + losses["cross_entropy"]).backward()

    def reached(module: nn.Module) -> bool:
        return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())

    assert [reached(level) for level in model.decoder.levels] == [True, True, False]  # coarsest first
    assert reached(model.encoder)
    assert not reached(model.head)


@pytest.mark.parametrize("skip", ["sum", "concat"])
def test_the_segmentation_is_that_of_the_network_without_it(skip: Skip) -> None:
    model, _ = network(skip)
    batch = batch_of()
    out = model(batch.image, batch.keys)
    assert [tuple(out[f"deep.logits_{level}"].shape) for level in (1, 2)] == [(2, 3, 4, 5, 6), (2, 3, 2, 3, 3)]
    plain = build_network(NetworkSettings(skip=skip, dropout=0), 1, 3, PUBLISHED_STRIDES, KERNELS, {}, 8)
    names = deployed_weights(model)
    assert names == frozenset(plain.state_dict())  # nothing of it is kept for predictions
    plain.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in names})
    torch.testing.assert_close(out["logits"], plain(batch.image, batch.keys)["logits"], rtol=0, atol=0)
    model.eval()
    torch.testing.assert_close(model.segment(batch.image), plain.eval().segment(batch.image), rtol=0, atol=0)


def test_the_decoders_maps_end_with_what_it_returns() -> None:
    model, _ = network()
    features = model.encoder(batch_of().image, torch.arange(2))
    maps = model.decoder.maps(features)
    assert [x.shape[1] for x in maps] == [8, 16, 32]
    torch.testing.assert_close(maps[0], model.decoder(features), rtol=0, atol=0)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(UserError, match="3 levels"):
        DeepSupervisionSettings().build(shapes(levels=2))
    with pytest.raises(ConfigError, match="'deep' learns from labels"):
        load_config("mae-then-encdec", ["pretrain.auxiliary.deep={kind: deep_supervision}"])
