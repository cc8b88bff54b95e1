"""The example's code with a plain PyTorch encoder: any function to feature maps can be trained."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from frugalseg.objectives.cpc import ContrastivePredictiveCoding

PATH = Path(__file__).parents[2] / "examples" / "monai_cpc.py"


class Plain(nn.Module):
    """Three strided convolutions, nothing of this project."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 8, 3, stride=2, padding=1)
        self.second = nn.Conv3d(8, 16, 3, stride=4, padding=1)

    def forward(self, image: Tensor) -> list[Tensor]:
        first = torch.relu(self.first(image))
        return [first, self.second(first)]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("monai_cpc", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_needs_monai_only_where_it_is_used(example: ModuleType) -> None:
    assert callable(example.main)
    assert "monai" not in sys.modules


def test_any_encoder_learns(example: ModuleType) -> None:
    torch.manual_seed(0)
    encoder = Plain()
    before = [weight.clone() for weight in encoder.parameters()]
    objective = example.make_objective(channels=16, total_stride=8)
    assert isinstance(objective, ContrastivePredictiveCoding)
    crops = list(example.made_up_crops(1)) * 12
    losses = example.pretrain(encoder, lambda patches, keys: encoder(patches), objective, crops)
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.1
    for old, new in zip(before, encoder.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_the_keys_choose_the_negatives(example: ModuleType) -> None:
    torch.manual_seed(0)
    encoder = Plain()
    objective = example.make_objective(channels=16, total_stride=8)
    image = next(iter(example.made_up_crops(1)))

    def loss(key: int) -> float:
        return float(
            objective.contrast(image, lambda patches, keys: encoder(patches), torch.tensor([key])).detach()
        )

    assert loss(3) == loss(3)
    assert loss(3) != loss(4)
