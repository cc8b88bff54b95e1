"""Weights of the published code: every name has its place; what does not fit is refused and changes nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from frugalseg.errors import DataError
from frugalseg.networks import Branch, MultiTaskNetwork, NetworkSettings, build_network, published
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import BoundarySettings, CpcSettings, Shapes, Task, VaeSettings

SHAPES = Shapes(2, (16, 32, 16), PUBLISHED_STRIDES, (8, 16, 32, 64), 8, 1, 2)
SETTINGS = {"a": VaeSettings(latent=3), "b": BoundarySettings(), "c": CpcSettings(patch=(8, 8, 8), blocks=2)}


def network(seed: int, **extra: Branch) -> MultiTaskNetwork:
    torch.manual_seed(seed)
    tasks: dict[str, Task] = {name: settings.build(SHAPES) for name, settings in SETTINGS.items()}
    kernels = [(3, 3, 3)] * 4
    return build_network(NetworkSettings(), 2, 2, PUBLISHED_STRIDES, kernels, {**tasks, **extra}, 8)


def arrays_of(net: MultiTaskNetwork) -> dict[str, NDArray[Any]]:
    return {name: weight.detach().numpy().copy() for name, weight in published.parameters(net).items()}


def write(path: Path, arrays: dict[str, NDArray[Any]]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_every_weight_has_a_name_and_comes_back(tmp_path: Path) -> None:
    source, target = network(0), network(1)
    arrays = arrays_of(source)
    assert len(arrays) == len(list(source.parameters()))
    published.load(write(tmp_path / "w.npz", arrays), target)
    for (name, one), other in zip(source.named_parameters(), target.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_names_are_those_of_the_published_classes() -> None:
    net = network(0)
    names = published.parameters(net)
    branches = dict(net.branches.items())
    for name, module in {
        "encoder/init_conv": net.encoder.init_conv,
        "encoder/block2/down": net.encoder.get_submodule("levels.2.down"),
        "encoder/block3/res2/conv1": net.encoder.get_submodule("levels.3.res.2.conv1"),
        "decoder/block0/proj": net.decoder.get_submodule("levels.2.proj"),
        "decoder/block2/res/norm2": net.decoder.get_submodule("levels.0.res.norm2"),
        "decoder/head": net.head,
        "embedder/logvar": branches["a"].get_submodule("embedder.logvar"),
        "vae/dense": branches["a"].get_submodule("decoder.dense"),
        "vae/block2/res/conv1": branches["a"].get_submodule("decoder.levels.0.res.conv1"),
        "boundary/att_in": branches["b"].get_submodule("att_in"),
        "boundary/block1/att": branches["b"].get_submodule("gates.1"),
        "boundary/block0/att": branches["b"].get_submodule("gates.2"),
        "predictor/res1/norm1": branches["c"].get_submodule("res.1.norm1"),
        "predictor/head": branches["c"].get_submodule("head"),
    }.items():
        assert names[f"{name}/weight"] is module.weight, name
        assert names[f"{name}/bias"] is module.bias, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("vae/dense/bias"), "lacks the weight 'vae/dense/bias'"),
        (lambda a: [a.pop(n) for n in list(a) if n.startswith("boundary/")], "and 49 more"),
        (
            lambda a: a.update({"encoder/init_conv/wieght": a["encoder/init_conv/bias"]}),
            "no place for. Did you mean",
        ),
        (
            lambda a: a.update({"decoder/head/bias": np.zeros(3, np.float32)}),
            r"shape \(3,\), the network's is \(2,\)",
        ),
        (lambda a: a.update({"decoder/head/bias": np.zeros(2, np.int32)}), "floating-point"),
        (lambda a: a.update({"decoder/head/bias": np.full(2, np.nan, np.float32)}), "finite"),
        (lambda a: a.update({"decoder/head/bias": np.array([None, 1], object)}), "cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(change: Any, message: str, tmp_path: Path) -> None:
    target = network(1)
    before = [weight.clone() for weight in target.parameters()]
    arrays = arrays_of(network(0))
    change(arrays)
    with pytest.raises(DataError, match=message) as caught:
        published.load(write(tmp_path / "w.npz", arrays), target)
    assert "w.npz" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(one, other) for one, other in zip(before, target.parameters(), strict=True))


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.npz", {"a": np.zeros(1000, np.float32)}).read_bytes()
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.npz").write_bytes(whole[:300] + bytes([whole[300] ^ 255]) + whole[301:])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("weights")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    for name in ("single.npy", "cut.npz", "flipped.npz", "empty.npz", "text.npz", "other.npz", "missing.npz"):
        with pytest.raises(DataError, match=name):
            published.load(tmp_path / name, network(0))


def test_a_branch_that_the_published_code_does_not_have() -> None:
    with pytest.raises(DataError, match="no branch like 'mine'"):
        published.parameters(network(0, mine=Branch()))
    with pytest.raises(DataError, match="one branch 'embedder', the network has two"):
        published.parameters(network(0, second=VaeSettings(latent=3).build(SHAPES)))
