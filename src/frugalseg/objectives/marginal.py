"""Exclusive classes of which a sample's label shows only some: the others are merged with the background.

A voxel without a label is then "background or a class that was not annotated", whose probability is the sum of
theirs. Any loss of these sums is a marginal loss: Shi, Xiao, Chen and Zhou 2021 (Medical Image Analysis 70, 101979;
arXiv 2007.03868); such classes were first merged by Fang and Yan 2020 (IEEE Transactions on Medical Imaging 39). It
asks nothing of the network about what is not known: docs/decisions/0020.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from frugalseg.objectives.base import require


class Merged(NamedTuple):
    """What a loss of the known classes is computed from; shapes as in `merge_unknown`.

    `p` is 0 for the classes that are not known, and `log_p` means nothing for them: no target is one of them.
    """

    p: Tensor
    log_p: Tensor
    target: Tensor
    weight: Tensor
    known: Tensor


def merge_unknown(log_p: Tensor, target: Tensor, weight: Tensor, annotated: Tensor) -> Merged:
    """Merge every class that is not annotated with the background, sample by sample; no branch on the data.

    With every class annotated all values stay as they are, to the last bit. With none the sample has weight 0.

    Args:
        log_p: Log-probabilities (B, 1, K, x, y, z), class 0 the background.
        target: Class indices (B, 1, x, y, z), int64.
        weight: (B, 1, x, y, z).
        annotated: (B, K), 1 for the classes that the sample's label shows, 0 for the others; of the background 1.

    Returns:
        The merged tensors, and as `known` (B, 1, K) what is annotated.
    """
    require(log_p.shape[1] == 1, "only exclusive classes are merged, one group of them", log_p.shape)
    require(annotated.shape == (len(log_p), log_p.shape[2]), "a flag for each sample and class", annotated.shape)
    known = annotated[:, None, :, None, None, None].to(log_p.dtype)
    joins = 1 - known
    joins[:, :, 0] = 1
    # log 0 takes a class out of the sum: its term and its gradient are exactly 0.
    background = torch.logsumexp(log_p + joins.log(), dim=2, keepdim=True)
    log_q = torch.cat([background, log_p[:, :, 1:]], dim=2)
    shown = annotated.long().gather(1, target.flatten(1)).reshape(target.shape)
    some = (annotated[:, 1:].sum(dim=1) > 0).to(weight.dtype)
    return Merged(
        p=log_q.exp() * known,
        log_p=log_q,
        target=target * shown,
        weight=weight * some[:, None, None, None, None],
        known=known[..., 0, 0, 0],
    )
