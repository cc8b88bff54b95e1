"""The contract of a regularisation branch: what it is given, and what it may return.

It carries all three kinds: a branch on the feature maps (a variational auto-encoder), one that encodes inputs of
its own (contrastive predictive coding), and one whose features the segmentation head sees (a boundary stream).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

HEAD = "head"


class BranchInput(NamedTuple):
    """What a branch may look at.

    Attributes:
        image: (B, C, x, y, z), labelled samples first.
        features: The encoder's maps of `image`, finest first; of its labelled samples only, unless some branch
            declares `needs_features`.
        encode: The shared encoder: images (N, C, x, y, z) and keys (N,) to feature maps.
        keys: (B,) one for each sample, for everything random (see `networks.keyed`).
        decode: The segmentation decoder: an encoder's maps, finest first, to the map that its head sees; None where
            a branch is used without one.
        decoded: The segmentation decoder's maps of the samples that are segmented, finest first; empty where a
            branch is used without one.
    """

    image: Tensor
    features: list[Tensor]
    encode: Callable[[Tensor, Tensor], list[Tensor]]
    keys: Tensor
    decode: Callable[[list[Tensor]], Tensor] | None = None
    decoded: Sequence[Tensor] = ()


class Branch(nn.Module):
    """A second task's part of the network. `forward` returns named tensors; the loss is the objective's."""

    needs_features: ClassVar[bool] = True
    """Whether the branch uses the main pass's feature maps of every sample, labelled or not."""
    published: ClassVar[Mapping[str, str]] = {}
    """The branch's parts in weights of the published code: name there to submodule ("" is the branch itself)."""

    @property
    def head_features(self) -> int:
        """Channels that the branch returns as "head" (B, n, x, y, z), to be seen by the segmentation head."""
        return 0

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        """Return the branch's named tensors."""
        raise TypeError(f"{type(self).__name__} has no forward")
