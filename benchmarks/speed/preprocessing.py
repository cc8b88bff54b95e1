"""Preparing one case in memory: ours against nnU-Net's preprocessor.

Four channels of 160 x 160 x 128 voxels with a border of zeros, and a label: cut to the non-zero box, z-scores over
non-zero voxels, third-order resampling; `isotropic` from 1 to 1.25 mm, `coarse axis` from 1 x 1 x 5 to 0.8 x 0.8 x
5 mm, where both treat the axis of 5 mm apart. Reading and writing are left out; nnU-Net also draws the places of
foreground voxels, ours does so when it writes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from benchmarks.speed.rounds import Arrays, Contender, alternate
from benchmarks.speed.text import Table

SHAPE = (160, 160, 128)
SPACINGS = {"isotropic": ((1.0, 1.0, 1.0), (1.25, 1.25, 1.25)), "coarse axis": ((1.0, 1.0, 5.0), (0.8, 0.8, 5.0))}
Run = Callable[[], dict[str, Any]]


def case() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return an image (channel, x, y, z) of smooth bumps in a ball, and a label."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side, dtype=np.float32) for side in SHAPE), indexing="ij")
    distance = np.sqrt(sum(axis**2 for axis in axes))
    waves = [np.cos((3 + c) * axes[0]) + np.sin((4 + c) * axes[1]) + np.cos(5 * axes[2]) for c in range(4)]
    image = np.stack([(200 + 40 * wave) * (distance < 0.9) for wave in waves]).astype(np.float32)
    return image, (distance < 0.3).astype(np.uint8)


def ours(spacing: str) -> Run:
    """Prepare as `frugalseg prepare` does."""
    from frugalseg.data.preprocess import Preparation, preprocess
    from frugalseg.geometry import Grid

    here, target = SPACINGS[spacing]
    image, label = case()
    grid = Grid(SHAPE, np.diag([*here, 1.0]))
    settings = Preparation(crop_nonzero=True, spacing=target)

    def run() -> dict[str, Any]:
        prepared = preprocess(grid, image, settings)
        cut = np.ascontiguousarray(prepared.placement.cut(label[None]))
        return {"image": prepared.image[0], "label": prepared.placement.resample_target(cut, 2)[0]}

    return run


def nnunet(spacing: str) -> Run:
    """Prepare as nnU-Net's plans usually say: order 3 for images, 1 for labels, 0 along a coarse axis."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    here, target = SPACINGS[spacing]
    image, label = case()
    resample = partial(resample_data_or_seg_to_shape, order_z=0, force_separate_z=None)
    labels = SimpleNamespace(has_regions=False, foreground_labels=[1], has_ignore_label=False, all_labels=[0, 1])
    plans: Any = SimpleNamespace(
        transpose_forward=[0, 1, 2],
        foreground_intensity_properties_per_channel={channel: {} for channel in "0123"},
        get_label_manager=lambda _: labels,
    )
    configuration: Any = SimpleNamespace(
        spacing=list(target),
        normalization_schemes=["ZScoreNormalization"] * 4,
        use_mask_for_norm=[True] * 4,
        resampling_fn_data=partial(resample, is_seg=False, order=3),
        resampling_fn_seg=partial(resample, is_seg=True, order=1),
    )
    made = DefaultPreprocessor(verbose=False)

    def run() -> dict[str, Any]:
        given = {"spacing": list(here)}
        found, target_label, _ = made.run_case_npy(
            image, label[None].astype(np.int8), given, plans, configuration, {}
        )
        return {"image": found[0], "label": np.maximum(target_label[0], 0)}

    return run


def agree(results: dict[str, Arrays]) -> None:
    """The same shape, nearly the same image inside the ball, the same label but at its edge."""
    one, two = results["ours"], results["nnU-Net"]
    assert one["image"].shape == two["image"].shape, (one["image"].shape, two["image"].shape)
    inner = tuple(slice(side // 4, -side // 4) for side in one["image"].shape)
    apart = float(np.abs(one["image"][inner] - two["image"][inner]).mean())
    same = float((one["label"] == two["label"]).mean())
    print(f"  images differ by {apart:.3f} sd on average inside, {100 * same:.2f} % of the label is the same")
    assert apart < 0.1, apart
    assert same > 0.995, same


def main() -> tuple[dict[str, Any], str]:
    """Run all rows; return what is written, as JSON and as Markdown."""
    here = "benchmarks.speed.preprocessing"
    table = Table("spacing", "who", "time", "its time over ours", "memory on top")
    kept: dict[str, Any] = {}
    for spacing in SPACINGS:
        contenders = [
            Contender(n, f"{here}:{f}", {"spacing": spacing}) for n, f in (("ours", "ours"), ("nnU-Net", "nnunet"))
        ]
        found = alternate(contenders, repeats=3, agree=agree)
        kept[spacing] = [item.to_json() for item in found.values()]
        for item in found.values():
            over = item.median / found["ours"].median
            extra = (item.peak_bytes - item.ready_bytes) / 2**20
            table.add(spacing, item.name, f"{item.median:.2f} s", f"{over:.1f}", f"{extra:.0f} MiB")
    return kept, table.markdown()
