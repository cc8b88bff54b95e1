"""A brain volume predicted by overlapping windows: ours against MONAI's inferer and nnU-Net's predictor.

The network, its weights, the windows' sides and their overlap are the same everywhere. Ours is given as a user gets
it; the peers get the same network made of PyTorch's plain modules, as theirs are, and MONAI's inferer also gets our
own modules, which tells how much is the network's doing and how much the windows'. `box` is the volume cut to the
brain's box, as `frugalseg` does to images with a border of zeros; `whole` is what a tool without that step sees.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from benchmarks.speed.rounds import Arrays, Contender, Figures, alternate
from benchmarks.speed.text import Table
from torch import Tensor, nn

WINDOW = (96, 96, 96)
CHANNELS, WIDTH = 4, 8
SHAPE = (240, 240, 155)
Run = Callable[[], dict[str, Any]]


def brain(whole: bool) -> Tensor:
    """Return a volume (4, x, y, z) of noise in an ellipsoid of a brain's size, zero around it; or its box."""
    generator = np.random.default_rng(0)
    image = generator.standard_normal((CHANNELS, *SHAPE), dtype=np.float32)
    axes = [(np.arange(side) - side / 2) / half for side, half in zip(SHAPE, (70, 88, 66))]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    inside = x**2 + y**2 + z**2 < 1
    image *= inside
    if not whole:
        low, high = (f(np.argwhere(inside), axis=0) for f in (np.min, np.max))
        image = np.ascontiguousarray(image[:, low[0] : high[0] + 1, low[1] : high[1] + 1, low[2] : high[2] + 1])
    return torch.from_numpy(image)


def network(plain: bool) -> nn.Module:
    """Return the trunk with fixed weights; `plain` of PyTorch's own modules in its default memory format."""
    from benchmarks.speed.ours import loop_and_batch

    loop, _ = loop_and_batch("encdec", [32, 32, 32], WIDTH, 1, "fp32", CHANNELS)
    net: Any = loop.network
    net = getattr(net, "module", net).eval()
    if plain:
        made_plain(net)
        net.to(memory_format=torch.contiguous_format)
    return net


def made_plain(module: nn.Module) -> None:
    """Replace our convolutions and normalisations in place by PyTorch's, with the same weights."""
    from frugalseg.networks.blocks import Convolution
    from frugalseg.networks.normalisation import Normalisation

    for name, child in module.named_children():
        if isinstance(child, Convolution):
            new: nn.Module = nn.Conv3d(
                child.in_channels, child.out_channels, child.kernel_size, child.stride, child.padding
            )
            new.load_state_dict(child.state_dict())
            setattr(module, name, new)
        elif isinstance(child, Normalisation):
            norm = nn.GroupNorm(child.num_groups, child.num_channels, child.eps)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, nn.Sequential(norm, nn.ReLU()))
        else:
            made_plain(child)


def result(probabilities: Tensor, keep: bool) -> dict[str, Any]:
    """Return what is compared: every fourth voxel's probabilities, and the classes."""
    found = {"classes": probabilities.argmax(dim=0).to(torch.uint8).numpy()}
    return found | ({"p": probabilities[:, ::4, ::4, ::4].numpy()} if keep else {})


def monai_places(size: int, window: int, overlap: float) -> list[int]:
    """Place windows along an axis as MONAI does: in steps of a fixed size, the last one moved back."""
    step = max(1, int(window * (1 - overlap)))
    return [min(start, size - window) for start in range(0, size - window + step, step)]


def ours(whole: bool, precision: str = "fp32", like_monai: bool = False) -> Run:
    """Predict slab by slab: classes, and for the comparison with MONAI all probabilities, at its places."""
    from frugalseg.inference.window import class_indices, probabilities, slabs, thin_axis, window_starts

    net: Any = network(plain=False)
    raw = brain(whole)
    window = WINDOW

    def predict(windows: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return probabilities(net.segment(windows), 1, 3)

    def run() -> dict[str, Any]:
        image = raw
        if whole:  # what preprocessing does with such an image
            filled = (raw != 0).any(dim=0)
            spans = [
                torch.nonzero(
                    filled.flatten(1).any(dim=1) if a == 0 else filled.movedim(a, 0).flatten(1).any(dim=1)
                )
                for a in range(3)
            ]
            low, high = [int(s.min()) for s in spans], [int(s.max()) + 1 for s in spans]
            image = raw[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        axis = thin_axis(image.shape[1:], window)
        places = monai_places if like_monai else window_starts
        parts = slabs(image, window, predict, [0.0] * CHANNELS, axis, 0.5, 1, places)
        if like_monai:
            return result(torch.cat(list(parts), dim=axis + 1), True)
        classes = torch.cat([class_indices(part, 1, 3) for part in parts], dim=axis + 1)
        return {"classes": classes[0].numpy()}

    return run


def monai(whole: bool, plain: bool = True) -> Run:
    """Predict with MONAI's sliding_window_inference, Gaussian blending, one window at a time."""
    from monai.inferers import sliding_window_inference

    from frugalseg.inference.window import gaussian_weights

    net = network(plain)
    image = brain(whole)[None]
    weights = gaussian_weights(WINDOW)

    def predict(windows: Tensor) -> Tensor:
        return net.segment(windows).softmax(dim=1)  # type: ignore[operator,no-any-return]

    def run() -> dict[str, Any]:
        with torch.inference_mode():
            out = sliding_window_inference(image, WINDOW, 1, predict, 0.5, "gaussian", roi_weight_map=weights)
        return result(out[0], True)

    return run


def nnunet(whole: bool) -> Run:
    """Predict with nnU-Net's predictor (logits are blended in half precision), without mirroring."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    net: Any = network(plain=True)
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    net.forward = lambda windows: net.segment(windows)
    predictor.network = net
    predictor.configuration_manager = SimpleNamespace(patch_size=list(WINDOW))
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=3)
    image = brain(whole)

    def run() -> dict[str, Any]:
        return result(predictor.predict_sliding_window_return_logits(image).float(), False)

    return run


def agree(results: dict[str, Arrays]) -> None:
    """Where the windows are the same, probabilities are within 1e-4; elsewhere the classes are nearly the same."""
    reference = results["ours, MONAI's windows"]
    for name in ("MONAI", "MONAI, our modules"):
        worst = float(np.abs(results[name]["p"] - reference["p"]).max())
        print(f"  {name}: probabilities within {worst:.1e}")
        assert worst < 1e-4, (name, worst)
    for name in ("nnU-Net", "ours, bf16"):
        same = float((results[name]["classes"] == results["ours"]["classes"]).mean())
        print(f"  {name}: {100 * same:.2f} % of the voxels have the same class")
        assert same > 0.95, (name, same)


def row(table: Table, given: str, found: Figures, base: Figures) -> None:
    """Add a contender's row."""
    table.add(
        given, found.name, f"{found.median:.2f} s", f"{base.median / found.median:.2f}",
        f"{(found.peak_bytes - found.ready_bytes) / 2**20:.0f} MiB", f"{found.peak_bytes / 2**20:.0f} MiB",
    )  # fmt: skip


def main() -> tuple[dict[str, Any], str]:
    """Run all rows; return what is written, as JSON and as Markdown."""
    here = "benchmarks.speed.prediction"
    table = Table("given", "who", "time", "MONAI's time over it", "memory on top", "peak memory")
    kept = {}
    box = alternate(
        [
            Contender("ours", f"{here}:ours", {"whole": False}),
            Contender("ours, MONAI's windows", f"{here}:ours", {"whole": False, "like_monai": True}),
            Contender("ours, bf16", f"{here}:ours", {"whole": False, "precision": "bf16"}),
            Contender("MONAI", f"{here}:monai", {"whole": False}),
            Contender("MONAI, our modules", f"{here}:monai", {"whole": False, "plain": False}),
            Contender("nnU-Net", f"{here}:nnunet", {"whole": False}),
        ],
        repeats=3, agree=agree,
    )  # fmt: skip
    for found in box.values():
        row(table, "box", found, box["MONAI"])
    whole = alternate(
        [
            Contender("ours", f"{here}:ours", {"whole": True}),
            Contender("MONAI", f"{here}:monai", {"whole": True}),
            Contender("nnU-Net", f"{here}:nnunet", {"whole": True}),
        ],
        repeats=3,
    )  # fmt: skip
    for found in whole.values():
        row(table, "whole", found, whole["MONAI"])
    kept = {"box": [f.to_json() for f in box.values()], "whole": [f.to_json() for f in whole.values()]}
    shape = tuple(brain(False).shape[1:])
    note = (
        f"\n`box` is {shape[0]} x {shape[1]} x {shape[2]}, `whole` {SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]} voxels.\n"
    )
    return kept, table.markdown() + note
