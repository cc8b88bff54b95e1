"""Weights of the published code (pfnet-research/label-efficient-brain-tumor-segmentation), as an .npz of arrays.

Names are those of the published classes, arrays are in PyTorch's layout (out, in, k, k, k) and (out, in):

    encoder/init_conv, encoder/block{i}/down, encoder/block{i}/res{j}/...        block i: i halvings
    decoder/block{i}/proj, decoder/block{i}/res/..., decoder/head
    embedder/{norm, conv, mu, logvar}, vae/{dense, proj, block{i}/..., head}     the VAE branch
    boundary/{proj, res/..., att_in, block{i}/{proj, res/..., att}, head}        the boundary branch
    predictor/{res{j}/..., head}                                                 the CPC branch

each with /weight and /bias; a residual block res/... holds norm1, conv1, norm2, conv2. Which of a branch's modules
goes by which of these names is said by the branch (`Branch.published`).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frugalseg.errors import DataError, did_you_mean
from frugalseg.networks.branch import Branch
from frugalseg.networks.encoder import Encoder
from frugalseg.networks.multitask import MultiTaskNetwork

Arrays = Mapping[str, NDArray[np.generic]]


def load(path: Path, network: MultiTaskNetwork) -> None:
    """Fill every weight of `network` from the file at `path`. On any error none is changed.

    Raises:
        DataError: The file cannot be read, a name is missing, left over or not known, or an array has another
            shape or type or is not finite; names the array.
    """
    fill(parameters(network), read(path), path)


def read(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an .npz; those that would need pickle are refused.

    Raises:
        DataError: It is missing, damaged, not an .npz, or holds something else than arrays of numbers.
    """
    try:
        content = np.load(path)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise DataError("is a single array; an .npz with one array for each weight was expected", path)
        with content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"cannot be read as an .npz of weights ({type(error).__name__}: {error})", path) from error


def parameters(network: MultiTaskNetwork) -> dict[str, Tensor]:
    """Return all weights of a network by their published names.

    Raises:
        DataError: A branch has no published form, or two branches have the same.
    """
    found = named(network.encoder, "encoder")
    found |= named(network.decoder, "decoder") | named(network.head, "decoder/head")
    for name, branch in network.branches.items():
        parts = branch.published if isinstance(branch, Branch) else {}
        if not parts:
            raise DataError(f"the published code has no branch like {name!r}")
        for prefix, module in parts.items():
            own = named(branch.get_submodule(module), prefix)
            if own.keys() & found.keys():
                raise DataError(f"the published code has one branch {prefix!r}, the network has two")
            found |= own
    return found


def named(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return a module's weights by their published names, all of which begin with `prefix`."""
    children = dict(module.named_children()).get("levels")
    levels = list(range(len(children))) if isinstance(children, nn.ModuleList) else []
    if not isinstance(module, Encoder):
        levels.reverse()  # up-sampling levels stand coarsest first, blocks are counted from the finest

    def published(name: str) -> str:
        name = re.sub(r"^levels\.(\d+)\.", lambda match: f"block{levels[int(match[1])]}.", name)
        name = re.sub(r"^gates\.(\d+)\.", lambda match: f"block{levels[int(match[1])]}.att.", name)
        return re.sub(r"(^|\.)res\.(\d+)\.", r"\1res\2.", name).replace(".", "/")

    return {f"{prefix}/{published(name)}": parameter for name, parameter in module.named_parameters()}


def fill(wanted: Mapping[str, Tensor], arrays: Arrays, where: Path | str) -> None:
    """Copy each array into the weight of its name; first check all of them.

    Raises:
        DataError: As in `load`; about `where`.
    """
    for name, weight in wanted.items():
        if name not in arrays:
            count = len(wanted.keys() - arrays.keys())
            raise DataError(f"lacks the weight {name!r}{f' and {count - 1} more' if count > 1 else ''}", where)
        array = arrays[name]
        if array.shape != tuple(weight.shape):
            raise DataError(f"{name!r} has shape {array.shape}, the network's is {tuple(weight.shape)}", where)
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise DataError(f"{name!r} ({array.dtype}) must hold finite floating-point numbers", where)
    left = sorted(arrays.keys() - wanted.keys())
    if left:
        raise DataError(
            f"holds {left[0]!r}, which the network has no place for.{did_you_mean(left[0], wanted)}", where
        )
    with torch.no_grad():
        for name, weight in wanted.items():
            weight.copy_(torch.from_numpy(np.asarray(arrays[name])))
