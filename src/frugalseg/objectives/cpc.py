"""Contrastive predictive coding on overlapping patches (Iwasawa et al. 2020, section 2.3; van den Oord 2018).

The crop is cut into overlapping patches, each goes through the shared encoder, and the mean of its deepest map is
its encoding. From the encodings of some patches (the context) a network predicts those of others (the targets);
InfoNCE asks it to tell each target from the other targets and from negatives. No label is needed.

Two differences from the published code, which DESIGN section 7 explains: the loss has a gradient, and by default
`gap` slabs lie between context and targets, so that they share no voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from frugalseg.errors import UserError
from frugalseg.networks.blocks import ResidualBlock, Triple, convolution
from frugalseg.networks.branch import BranchInput
from frugalseg.networks.keyed import keyed_choice, subkeys
from frugalseg.objectives.across import all_rows
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
from frugalseg.objectives.cpc_layout import Layout, choose_layout
from frugalseg.objectives.cpc_roles import Needed, Roles, assign_roles, draw_negatives
from frugalseg.settings import Side

PERMUTED = 0x2545F491  # other draws than those of the negatives


class CpcSettings(TaskSettings):
    """Contrastive predictive coding."""

    kind: Literal["cpc"] = "cpc"
    """Which task this is."""
    weight: Annotated[float, Field(gt=0)] = 0.05
    """Factor of the loss in the total (published: 0.001, for a loss without gradient)."""
    patch: tuple[Side, Side, Side] | None = None
    """Sides of a patch in voxels; by default the largest of 32, 16, 8 that leaves 16 targets."""
    stride: tuple[Side, Side, Side] | None = None
    """Steps between patches; by default half a patch."""
    axis: Literal["x", "y", "z"] | None = None
    """Axis that the grid of patches is cut along; by default the one with the most targets."""
    pattern: Literal["updown", "ichimatsu"] = "updown"
    """Context and targets: the two ends of the cut axis, or alternating slabs on a chequered grid."""
    direction: Literal["upper", "lower"] = "upper"
    """For `updown`: predict the upper end of the axis from the lower one, or the other way round."""
    gap: Annotated[int, Field(ge=0)] | Literal["disjoint", "published"] = "disjoint"
    """Slabs between context and targets, at least; `disjoint`: as many as leave no shared voxel; `published`: 0."""
    negatives: Annotated[int, Field(ge=1, le=2**20)] = 20
    """Negatives of each image, drawn without repetition (fewer where there are not so many candidates)."""
    negatives_from: Literal["image", "batch"] = "image"
    """Where they come from: the image itself, or all images of the step, on whatever process."""
    similarity: Literal["inner", "cosine"] = "inner"
    """Scores: inner products, or cosines divided by the temperature."""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """Divides the cosines."""
    blocks: Annotated[int, Field(ge=1, le=64)] = 8
    """Residual blocks of the predictor."""
    encodings: Literal["patches", "pooled", "masked"] = "patches"
    """Each patch through the encoder by itself; or, cheaper and other tasks, means over the whole crop's map:
    `pooled`, or `masked`, where the context comes from a second pass in which the targets' part is hidden."""
    levels: Annotated[int, Field(ge=1, le=7)] = 1
    """The deepest levels whose maps' means make an encoding; published: the deepest alone."""
    control: Literal["none", "permuted"] = "none"
    """`permuted`: a negative control, in which a prediction's own encoding is any of the candidates, targets and
    negatives alike, drawn anew for each crop. It costs the same, and there is nothing that could be learnt."""
    chunk: Annotated[int, Field(ge=1)] | None = None
    """Patches encoded at a time, with recomputation in the backward pass; by default chosen to fit the memory."""

    @model_validator(mode="after")
    def _chunk(self) -> Self:
        if self.chunk is not None and self.encodings != "patches":
            raise ValueError(
                f"chunk is a number of patches, and encodings={self.encodings} encodes none; leave one of them out"
            )
        if self.encodings == "masked" and self.pattern != "updown":
            raise ValueError("encodings=masked hides one end of the cut axis, which is pattern=updown")
        return self

    def build(self, shapes: Shapes) -> ContrastivePredictiveCoding:
        """Fit the patches to the crop.

        Raises:
            UserError: No patch, axis and gap leave at least one slab of context and enough targets.
        """
        layout = choose_layout(self, shapes.crop, shapes.total_stride)
        if self.levels > len(shapes.features):
            raise UserError(f"{self.levels} levels of {len(shapes.features)}; choose fewer", "auxiliary.cpc.levels")
        channels = sum(shapes.features[-self.levels :])
        if self.encodings == "patches":
            return ContrastivePredictiveCoding(self, layout, channels)
        from frugalseg.objectives.cpc_pooled import MaskedCoding, PooledCoding  # which build on this module

        kind = PooledCoding if self.encodings == "pooled" else MaskedCoding
        return kind(self, layout, channels, shapes.total_strides)


def patch_view(image: Tensor, patch: Triple, stride: Triple) -> Tensor:
    """Look at (B, C, x, y, z) as patches (B, gx, gy, gz, C, *patch); nothing is copied."""
    view = image.unfold(2, patch[0], stride[0]).unfold(3, patch[1], stride[1]).unfold(4, patch[2], stride[2])
    return view.movedim(1, 4)


def cut_patches(image: Tensor, patch: Triple, stride: Triple) -> Tensor:
    """Cut (B, C, x, y, z) into (B, n, C, *patch), raster order over the grid with the last axis fastest."""
    return patch_view(image, patch, stride).flatten(1, 3)


def unravelled(indices: Tensor, sides: Sequence[int]) -> tuple[Tensor, ...]:
    """Return numbers of places in an array of these sides, last axis fastest, as an index for each axis."""
    found: list[Tensor] = []
    for side in reversed(sides):
        found.insert(0, indices % side)
        indices = indices // side
    return tuple(found)


def info_nce_scores(prediction: Tensor, targets: Tensor, negatives: Tensor, temperature: float | None) -> Tensor:
    """Return scores (B, P, P + N): each prediction against all targets, then the negatives.

    Args:
        prediction: (B, C, P).
        targets: (B, C, P), the correct encodings in the same order.
        negatives: (B, C, N).
        temperature: None for inner products; a number for cosines divided by it.
    """
    candidates = torch.cat([targets, negatives], dim=2)
    if temperature is None:
        return torch.bmm(prediction.transpose(1, 2), candidates)
    unit = functional.normalize(prediction, dim=1), functional.normalize(candidates, dim=1)
    return torch.bmm(unit[0].transpose(1, 2), unit[1]) / temperature


def info_nce_loss(scores: Tensor) -> Tensor:
    """Return the cross-entropy (B,) of scores (B, P, P + N) where row i belongs to column i, mean over rows."""
    rows = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape[:2])
    return functional.cross_entropy(scores.transpose(1, 2), rows, reduction="none").mean(dim=1)


class ContrastivePredictiveCoding(Task):
    """The CPC branch: encodes patches with the shared encoder and predicts some encodings from others."""

    needs_features: ClassVar[bool] = False
    own_graph: ClassVar[bool] = True
    published: ClassVar[Mapping[str, str]] = {"predictor": ""}
    loss_names: ClassVar[tuple[str, ...]] = ("info_nce",)
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "chance")

    def __init__(self, settings: CpcSettings, layout: Layout, channels: int) -> None:
        super().__init__()
        self.settings = settings
        self.layout = layout
        self.chunk = settings.chunk  # made smaller where memory runs out
        self.needed = Needed(layout, settings.direction, settings.negatives, settings.negatives_from == "batch")
        self.without_numbers = False
        self.res = nn.ModuleList(ResidualBlock(channels) for _ in range(settings.blocks))
        self.head = convolution(channels, channels, (1, 1, 1))

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        """Return "encodings" (B, C, gx, gy, gz) and "prediction" (B, C, a, b, k), cut axis last.

        In training only the encodings that the loss looks at are computed; the others are 0.
        """
        grid = self.layout.grid
        view = patch_view(inputs.image, self.layout.patch, self.layout.stride)
        require(view.shape[1:4] == grid, "the crop does not fit the layout", (view.shape[1:4], grid))
        count = len(view) * self.layout.patches
        keys = subkeys(inputs.keys, self.layout.patches).flatten()
        if not self.training:
            encodings = self.encode(inputs, view.flatten(0, 3), keys)
        else:
            indices = self.needed.indices(inputs.keys, self.without_numbers)
            sides = (len(view), *grid)
            found = self.encode(inputs, view[unravelled(indices, sides)], keys[indices])
            encodings = found.new_zeros(count, found.shape[1]).index_copy(0, indices, found)
        encodings = encodings.unflatten(0, (len(view), *grid)).movedim(-1, 1)
        return {"encodings": encodings, "prediction": self.predict(self.roles(encodings).context)}

    def contrast(self, image: Tensor, encode: Callable[[Tensor, Tensor], list[Tensor]], keys: Tensor) -> Tensor:
        """Return the loss of images (B, C, x, y, z) for an encoder of your own; see examples/monai_cpc.py.

        Args:
            image: Crops of the layout's sides.
            encode: Maps patches (N, C, x, y, z) and keys (N,), which it may ignore, to feature maps, deepest last.
            keys: (B,) integers, a new one for each crop; they choose the negatives.
        """
        out = self(BranchInput(image, [], encode, keys))
        return info_nce_loss(self.scores(out, keys)).mean()

    def encode(self, inputs: BranchInput, patches: Tensor, keys: Tensor) -> Tensor:
        """Return one vector (n, C) for each of the patches (n, channels, x, y, z): the deepest maps' means.

        In chunks, each is computed again in the backward pass, so that only one chunk's activations are held.
        """

        def means(part: Tensor, part_keys: Tensor) -> Tensor:
            maps = inputs.encode(part, part_keys)[-self.settings.levels :]
            return torch.cat([at_least_float32(deep).mean(dim=(2, 3, 4)) for deep in maps], dim=1)

        size = self.chunk
        if size is None:
            return means(patches, keys)
        chunks = []
        for start in range(0, len(patches), size):
            part = patches[start : start + size].contiguous(), keys[start : start + size]
            if torch.is_grad_enabled():
                # Dropout comes from the keys: there is no generator state to keep for the second time.
                chunks.append(checkpoint(means, *part, use_reentrant=False, preserve_rng_state=False))
            else:
                chunks.append(means(*part))
        return torch.cat(chunks)

    @property
    def most(self) -> int:
        """Patches of a crop that a step encodes, at most."""
        return self.needed.most

    def spare_memory(self, samples: int) -> str | None:
        """Encode a quarter of the patches at a time from now on."""
        total = samples * self.most
        now = min(self.chunk or total, total)
        if now == 1:
            return None
        self.chunk = -(-now // 4)
        return f"{self.chunk} of {total} patches encoded at a time instead of {now}"

    def assume_most(self) -> None:
        """Encode as many patches as can be needed: how many are does depend on the keys' numbers."""
        self.without_numbers = True

    def roles(self, encodings: Tensor) -> Roles:
        """Split encodings (B, C, gx, gy, gz) by the settings' pattern."""
        cut_last = encodings.movedim(2 + self.layout.axis, -1)
        return assign_roles(cut_last, self.layout.slabs, self.settings.pattern, self.settings.direction)

    def predict(self, context: Tensor) -> Tensor:
        """Predict the targets' encodings (B, C, a, b, k) from the context's, of the same shape."""
        x = context
        for block in self.res:
            x = block(x)
        out: Tensor = self.head(x)
        return out

    def scores(self, out: Named, keys: Tensor) -> Tensor:
        """Return each image's scores (B, P, P + N)."""
        roles = self.roles(out["encodings"])
        candidates, images = roles.candidates, 1
        if self.settings.negatives_from == "batch":
            rows = all_rows(candidates)
            pool, images = rows.transpose(0, 1).flatten(1), len(rows)
            candidates = pool.expand(len(keys), *pool.shape)
        chosen = draw_negatives(keys, roles.candidates.shape[2], self.settings.negatives, images)
        negatives = candidates.gather(2, chosen[:, None].expand(-1, candidates.shape[1], -1))
        targets = roles.targets.flatten(2)
        if self.settings.control == "permuted":
            joined = torch.cat([targets, negatives], dim=2)
            order = keyed_choice(keys ^ PERMUTED, joined.shape[2], joined.shape[2])
            mixed = joined.gather(2, order[:, None].expand_as(joined))
            targets, negatives = mixed[:, :, : targets.shape[2]], mixed[:, :, targets.shape[2] :]
        temperature = self.settings.temperature if self.settings.similarity == "cosine" else None
        return info_nce_scores(out["prediction"].flatten(2), targets, negatives, temperature)

    def loss(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        """Return "info_nce", the mean over images; labels are not looked at."""
        losses = info_nce_loss(self.scores(out, batch.keys))
        return {"info_nce": masked_mean(losses, torch.ones_like(losses))}

    @torch.no_grad()
    def metrics(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        """Return "accuracy", the share of predictions nearest to their own target, and "chance"."""
        scores = self.scores(out, batch.keys)
        rows = torch.arange(scores.shape[1], device=scores.device)
        hits = (scores.argmax(dim=2) == rows).float().mean(dim=1)
        return {"accuracy": masked_mean(hits, torch.ones_like(hits)), "chance": torch.tensor(1 / scores.shape[2])}
