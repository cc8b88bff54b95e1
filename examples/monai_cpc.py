"""Contrastive predictive coding for an encoder of your own, shown on a network of MONAI.

    pip install monai
    python examples/monai_cpc.py

The objective needs an encoder that turns images into a list of feature maps, deepest last, and whole crops without
labels. It cuts a crop into overlapping patches, encodes each, and learns to predict the encodings at one end of the
crop from those at the other. Afterwards fine-tune the same network on the labelled volumes as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from frugalseg.objectives import ContrastivePredictiveCoding, CpcSettings
from frugalseg.objectives.cpc_layout import choose_layout

Encode = Callable[[Tensor, Tensor], list[Tensor]]
CROP = (48, 48, 48)


def make_objective(channels: int, total_stride: int) -> ContrastivePredictiveCoding:
    """Return the objective for an encoder whose deepest map has so many channels (a multiple of 8).

    `total_stride` is how many voxels of the image one voxel of that map stands for, along each axis.
    """
    settings = CpcSettings(blocks=2, similarity="cosine", chunk=64)
    layout = choose_layout(settings, CROP, (total_stride, total_stride, total_stride))
    print(layout.describe())
    return ContrastivePredictiveCoding(settings, layout, channels)


def pretrain(
    encoder: nn.Module, encode: Encode, objective: ContrastivePredictiveCoding, crops: Iterable[Tensor]
) -> list[float]:
    """Train encoder and predictor on batches of unlabelled crops (B, C, *CROP); return the loss of every step."""
    optimiser = torch.optim.AdamW([*encoder.parameters(), *objective.parameters()], lr=1e-3)
    losses = []
    for step, images in enumerate(crops):
        # Every crop of the run gets a number of its own: it decides which negatives are drawn.
        keys = step * len(images) + torch.arange(len(images), device=images.device)
        loss = objective.contrast(images, encode, keys)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def made_up_crops(steps: int, batch: int = 1) -> Iterable[Tensor]:
    """Yield smooth random volumes; put your own loader of unlabelled scans here."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        coarse = torch.randn(batch, 1, 8, 8, 8, generator=generator)
        yield nn.functional.interpolate(coarse, size=CROP, mode="trilinear", align_corners=True)


def main() -> None:
    """Pre-train the encoder of MONAI's SegResNet for a few steps."""
    from monai.networks.nets import SegResNet

    torch.manual_seed(0)
    network = SegResNet(init_filters=8, in_channels=1, out_channels=3)  # four levels: 64 channels at stride 8

    def encode(patches: Tensor, keys: Tensor) -> list[Tensor]:
        return network.encode(patches)[1]

    losses = pretrain(network, encode, make_objective(channels=64, total_stride=8), made_up_crops(steps=8))
    print("loss", " ".join(f"{loss:.3f}" for loss in losses))


if __name__ == "__main__":
    main()
