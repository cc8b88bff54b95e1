"""CPC on the crop's own map: the means are right, the gradient arrives, nothing is encoded a second time."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from frugalseg.networks import NetworkSettings, build_network
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import Batch, CpcSettings, Shapes
from frugalseg.objectives.base import outputs_of
from frugalseg.objectives.cpc_layout import Layout
from frugalseg.objectives.cpc_pooled import MaskedCoding, PooledCoding, overlaps, pooled

CROP = (16, 32, 16)
SETTINGS = CpcSettings(patch=(8, 8, 8), blocks=1, encodings="pooled")
SHAPES = Shapes(1, CROP, PUBLISHED_STRIDES, (8, 16, 32, 64), 8, 1, 2)


def test_overlaps_by_hand() -> None:
    """Patches of 8 voxels every 4, over cells of 8: the middle one takes half of each."""
    assert overlaps(2, 3, 8, 4, 8).tolist() == [[1, 0], [0.5, 0.5], [0, 1]]
    expected = torch.tensor([[4, 2, 0, 0], [1, 4, 1, 0]]) / 6
    torch.testing.assert_close(overlaps(4, 2, 6, 3, 4), expected)


def test_equals_average_pooling_where_boxes_are_whole_cells() -> None:
    torch.manual_seed(0)
    deepest = torch.randn(2, 3, 6, 4, 5)
    layout = Layout((16, 16, 16), (8, 8, 8), (5, 3, 4), 0, 2)
    expected = functional.avg_pool3d(deepest, 2, 1)
    torch.testing.assert_close(pooled(deepest, layout, (8, 8, 8)), expected)


def test_a_constant_map_has_its_own_value_as_every_mean() -> None:
    layout = Layout((7, 9, 5), (3, 4, 2), (4, 3, 6), 0, 2)
    deepest = torch.full((1, 2, 2, 3, 2), 3.5)
    torch.testing.assert_close(pooled(deepest, layout, (8, 8, 8)), torch.full((1, 2, 4, 3, 6), 3.5))


def test_encoder_and_predictor_learn_from_unlabelled_crops_in_one_pass() -> None:
    torch.manual_seed(0)
    branch = SETTINGS.build(SHAPES)
    assert isinstance(branch, PooledCoding)
    net = build_network(NetworkSettings(), 1, 2, PUBLISHED_STRIDES, [(3, 3, 3)] * 4, {"cpc": branch}, 8)
    passes: list[int] = []
    net.encoder.register_forward_hook(lambda module, given, out: passes.append(len(given[0])))
    zeros = torch.zeros(3, 1, *CROP, dtype=torch.uint8)
    batch = Batch(torch.randn(3, 1, *CROP), zeros, zeros, torch.arange(3), torch.arange(3), 1)
    out = net(batch.image, batch.keys, 1)
    assert passes == [3]
    assert out["logits"].shape[0] == 1
    losses, metrics = branch.loss(outputs_of("cpc", out), batch), branch.metrics(outputs_of("cpc", out), batch)
    losses["info_nce"].backward()
    assert 0 <= float(metrics["accuracy"]) <= 1
    for name, weight in [*net.encoder.named_parameters(), *branch.named_parameters()]:
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name
    assert branch.spare_memory(3) is None
    assert branch.most == 0


def test_a_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="leave one of them out"):
        CpcSettings(encodings="pooled", chunk=4)


MASKED = SETTINGS.model_copy(update={"encodings": "masked"})


def masked_branch(**changes: object) -> MaskedCoding:
    torch.manual_seed(0)
    branch = CpcSettings.model_validate({**MASKED.model_dump(), **changes}).build(SHAPES)
    assert isinstance(branch, MaskedCoding)
    return branch


@pytest.mark.parametrize("direction", ["upper", "lower"])
def test_hidden_is_every_voxel_of_a_target_and_none_of_the_context(direction: str) -> None:
    branch = masked_branch(direction=direction)
    visible = branch.visible(torch.zeros(1, 1, *CROP))[0, 0].flatten()
    layout = branch.layout
    assert (layout.axis, len(visible)) == (1, CROP[1])
    starts = [layout.stride[1] * slab for slab in range(layout.grid[1])]
    boxes = [visible[start : start + layout.patch[1]] for start in starts]
    context, targets = boxes[: layout.slabs], boxes[-layout.slabs :]
    if direction == "lower":
        context, targets = boxes[-layout.slabs :], boxes[: layout.slabs]
    assert all(box.all() for box in context)
    assert not any(box.any() for box in targets)


def test_the_prediction_sees_nothing_of_the_targets_and_the_pooled_one_does() -> None:
    net, other = (
        build_network(NetworkSettings(), 1, 2, PUBLISHED_STRIDES, [(3, 3, 3)] * 4, {"cpc": branch}, 8)
        for branch in (masked_branch(), SETTINGS.build(SHAPES))
    )
    image = torch.randn(1, 1, *CROP)
    changed = torch.where(torch.arange(CROP[1])[:, None] >= 24, torch.randn(1, 1, *CROP), image)
    keys = torch.arange(1)
    for network, blind in ((net, True), (other, False)):
        before, after = (network(x, keys, 1) for x in (image, changed))
        assert torch.equal(before["cpc.prediction"], after["cpc.prediction"]) is blind
        assert not torch.equal(before["cpc.encodings"], after["cpc.encodings"])


def test_masked_coding_trains_encoder_and_predictor_in_two_passes() -> None:
    branch = masked_branch(levels=2)
    net = build_network(NetworkSettings(), 1, 2, PUBLISHED_STRIDES, [(3, 3, 3)] * 4, {"cpc": branch}, 8)
    passes: list[int] = []
    net.encoder.register_forward_hook(lambda module, given, out: passes.append(len(given[0])))
    zeros = torch.zeros(3, 1, *CROP, dtype=torch.uint8)
    batch = Batch(torch.randn(3, 1, *CROP), zeros, zeros, torch.arange(3), torch.arange(3), 1)
    out = net(batch.image, batch.keys, 1)
    assert passes == [3, 3]
    assert out["cpc.encodings"].shape[1] == 32 + 64
    branch.loss(outputs_of("cpc", out), batch)["info_nce"].backward()
    for name, weight in [*net.encoder.named_parameters(), *branch.named_parameters()]:
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


def test_each_level_is_pooled_with_its_own_stride() -> None:
    """A ramp's mean over a box is the ramp at the box's middle, on every level."""
    settings = SETTINGS.model_copy(update={"levels": 2, "patch": (16, 16, 16), "stride": (8, 8, 8)})
    crop = (32, 64, 32)
    shapes = Shapes(1, crop, PUBLISHED_STRIDES, (8, 16, 32, 64), 8, 1, 2)
    branch = settings.build(shapes)
    assert isinstance(branch, PooledCoding)
    assert branch.total_strides == ((4, 4, 4), (8, 8, 8))
    maps = []
    for stride in (4, 8):
        ramp = (torch.arange(crop[1] // stride) + 0.5) * stride
        maps.append(ramp[None, None, None, :, None].expand(1, 1, crop[0] // stride, -1, crop[2] // stride))
    means = branch.means(maps, 1)
    assert means.shape[1] == 2
    middles = 8.0 + 8 * torch.arange(means.shape[3])
    for level in range(2):
        torch.testing.assert_close(means[0, level], middles[None, :, None].expand_as(means[0, level]))


def test_hiding_needs_two_ends() -> None:
    with pytest.raises(ValidationError, match="hides one end of the cut axis"):
        CpcSettings(encodings="masked", pattern="ichimatsu")
