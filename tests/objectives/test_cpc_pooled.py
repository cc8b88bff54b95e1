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
from frugalseg.objectives.cpc_pooled import PooledCoding, overlaps, pooled

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
