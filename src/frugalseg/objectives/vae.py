"""The variational auto-encoder branch (Myronenko 2018; Iwasawa et al. 2020, section 2.2; PAPER "VAE branch").

From the encoder's deepest map it makes the mean and log-variance of a code, draws a code, and decodes it to the
image that went in. So the encoder has to keep what the image looks like, for which no label is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from frugalseg.networks.blocks import Triple, convolution, resize
from frugalseg.networks.branch import BranchInput
from frugalseg.networks.decoder import PlainUpLevel
from frugalseg.networks.keyed import keyed_normal
from frugalseg.networks.normalisation import normalisation
from frugalseg.objectives.base import (
    Batch,
    Named,
    Shapes,
    Task,
    TaskSettings,
    at_least_float32,
    masked_mean,
    require,
)

CODE_CHANNELS = 16  # of the map that the linear layers see and make
DECODED_CHANNELS = 256  # of the decoder's first map, whatever the width (published)


class VaeSettings(TaskSettings):
    """Variational auto-encoder: reconstructs the image from a short code."""

    kind: Literal["vae"] = "vae"
    """Which task this is."""
    mse_weight: Annotated[float, Field(ge=0)] = 0.1
    """Factor of the mean squared error of the reconstruction, within the task (published: 0.1)."""
    kl_weight: Annotated[float, Field(ge=0)] = 0.1
    """Factor of the divergence of the code from a standard normal one, within the task (published: 0.1)."""
    latent: Annotated[int, Field(ge=1, le=65536)] = 128
    """Numbers in the code."""
    noise: bool = True
    """Whether training draws the code around its mean; without, it is the mean, as it always is in evaluation."""

    def build(self, shapes: Shapes) -> VariationalAutoEncoder:
        """Make the branch for crops of these sides."""
        return VariationalAutoEncoder(self, shapes)


def halved(sides: Triple) -> Triple:
    """Return the sides after a convolution of stride 2, which rounds up."""
    return -(-sides[0] // 2), -(-sides[1] // 2), -(-sides[2] // 2)


def code_sides(crop: Triple, total_stride: Triple) -> Triple:
    """Return the sides of the map that the code is decoded to: floor(side / (2 total stride)), at least 1.

    The published total stride is 8, hence its floor(side / 16).
    """
    x, y, z = (max(1, side // (2 * stride)) for side, stride in zip(crop, total_stride))
    return x, y, z


class Embedder(nn.Module):
    """GN, ReLU, convolution with stride 2 to 16 channels, two linear layers: mean and log-variance of the code."""

    def __init__(self, channels: int, sides: Triple, kernel: Triple, latent: int) -> None:
        super().__init__()
        self.norm = normalisation(channels)
        # An axis of one voxel has nothing to halve.
        stride = (2 if sides[0] > 1 else 1, 2 if sides[1] > 1 else 1, 2 if sides[2] > 1 else 1)
        self.conv = convolution(channels, CODE_CHANNELS, kernel, stride)
        self.mu = nn.Linear(CODE_CHANNELS * prod(halved(sides)), latent)
        self.logvar = nn.Linear(CODE_CHANNELS * prod(halved(sides)), latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, *sides) to mean and log-variance, (B, latent) each."""
        flat = self.conv(self.norm(x)).flatten(1)
        return self.mu(flat), self.logvar(flat)


class CodeDecoder(nn.Module):
    """From a code back to an image: linear layer, ReLU, 1x1x1, resized to the deepest map, levels without skips."""

    def __init__(self, shapes: Shapes, latent: int) -> None:
        super().__init__()
        self.sides = code_sides(shapes.crop, shapes.total_stride)
        self.dense = nn.Linear(latent, CODE_CHANNELS * prod(self.sides))
        self.proj = convolution(CODE_CHANNELS, DECODED_CHANNELS, (1, 1, 1))
        self.levels = nn.ModuleList()
        channels = DECODED_CHANNELS
        for level in reversed(range(len(shapes.features) - 1)):
            self.levels.append(PlainUpLevel(channels, shapes.features[level], shapes.kernel(level)))
            channels = shapes.features[level]
        self.head = convolution(channels, shapes.inputs, (1, 1, 1))

    def forward(self, z: Tensor, sides: Sequence[Triple]) -> Tensor:
        """Map codes (B, latent) to images (B, channels, *sides[0]) through maps of the encoder's `sides`."""
        x = functional.relu(self.dense(z)).unflatten(1, (CODE_CHANNELS, *self.sides))
        x = resize(self.proj(x), sides[-1])
        for level, size in zip(self.levels, reversed(sides[:-1]), strict=True):
            x = level(x, size)
        image: Tensor = self.head(x)
        return image


class VariationalAutoEncoder(Task):
    """The VAE branch. The noise of a sample's code is a function of its key (see `networks.keyed`)."""

    loss_names: ClassVar[tuple[str, ...]] = ("mse", "kl")
    published: ClassVar[Mapping[str, str]] = {"embedder": "embedder", "vae": "decoder"}

    def __init__(self, settings: VaeSettings, shapes: Shapes) -> None:
        super().__init__()
        self.settings = settings
        self.sides = shapes.sides
        self.embedder = Embedder(
            shapes.features[-1], self.sides[-1], shapes.kernel(len(self.sides) - 1), settings.latent
        )
        self.decoder = CodeDecoder(shapes, settings.latent)

    @property
    def weights(self) -> Mapping[str, float]:
        """Factors of "mse" and "kl"."""
        return {"mse": self.settings.mse_weight, "kl": self.settings.kl_weight}

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        """Return "mu", "logvar" and "z" (B, latent), and "reconstruction" (B, channels, x, y, z).

        Raises:
            ValueError: The image has other sides than the crops that the linear layers were made for.
        """
        require(tuple(inputs.image.shape[2:]) == self.sides[0], "wrong sides", (inputs.image.shape, self.sides[0]))
        mu, logvar = map(at_least_float32, self.embedder(inputs.features[-1]))
        z = mu
        if self.training and self.settings.noise:
            z = draw_code(mu, logvar, keyed_normal(inputs.keys, self.settings.latent))
        return {"mu": mu, "logvar": logvar, "z": z, "reconstruction": self.decoder(z, self.sides)}

    def loss(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        """Return "mse" and "kl", means over the samples, labelled or not, with any voxel inside the volume."""
        inside = batch.image_weight
        present = (inside.sum(dim=(1, 2, 3, 4)) > 0).to(inside.dtype)
        mse = squared_error(at_least_float32(out["reconstruction"]), batch.image, inside)
        kl = divergence(out["mu"], out["logvar"])
        return {"mse": masked_mean(mse, present), "kl": masked_mean(kl, present)}


def draw_code(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """Return mu + exp(logvar / 2) eps, all (B, latent)."""
    return mu + (logvar / 2).exp() * eps.to(mu.dtype)


def squared_error(reconstruction: Tensor, image: Tensor, inside: Tensor) -> Tensor:
    """Return each sample's mean squared error (B,) over channels and the voxels inside, 0 where none is.

    Args:
        reconstruction: (B, C, x, y, z).
        image: The same.
        inside: (B, 1, x, y, z), 0 or 1.
    """
    error = (reconstruction - image).square().mean(dim=1, keepdim=True)
    return (error * inside).sum(dim=(1, 2, 3, 4)) / inside.sum(dim=(1, 2, 3, 4)).clamp(min=1)


def divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return each sample's KL(N(mu, exp(logvar)) || N(0, 1)) (B,) over the length of the code, as published."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).mean(dim=1)
