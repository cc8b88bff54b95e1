"""A training step of EncDec against one of MONAI's SegResNet: same width, crops, loss and optimiser.

SegResNet is the nearest network of the peers (Myronenko 2018, which both derive from); ours has 1.10 times its
multiply-adds. Its step is the usual one: DiceCELoss, AdamW, gradients clipped to a norm. In bf16 both use autocast.
`--defaults` are ours in bf16, where the processor has it, and SegResNet in fp32, as each trains if nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmarks.speed.rounds import Arrays, Contender, alternate
from benchmarks.speed.text import Table

SIZES = {
    "hippocampus": {"crop": [40, 56, 40], "width": 8, "samples": 2, "channels": 1},
    "four channels": {"crop": [80, 80, 80], "width": 16, "samples": 1, "channels": 4},
}
Run = Callable[[], dict[str, Any]]


def ours(crop: list[int], width: int, samples: int, channels: int, precision: str, method: str = "encdec") -> Run:
    """Return a step of our loop."""
    from benchmarks.speed.ours import loop_and_batch

    loop, batch = loop_and_batch(method, crop, width, samples, precision, channels)
    number = 0

    def run() -> dict[str, Any]:
        nonlocal number
        values = loop.step(number, batch)
        number += 1
        return {"loss": np.array(values["segmentation.dice"] + values["segmentation.cross_entropy"])}

    return run


def segresnet(
    crop: list[int], width: int, samples: int, channels: int, precision: str, channels_last: bool = False
) -> Run:
    """Return a step of MONAI's SegResNet."""
    from monai.losses import DiceCELoss
    from monai.networks.nets import SegResNet

    torch.manual_seed(0)
    network = SegResNet(
        init_filters=width, in_channels=channels, out_channels=3, dropout_prob=0.2,
        blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1),
    )  # fmt: skip
    if channels_last:
        network.to(memory_format=torch.channels_last_3d)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device).train()
    image = torch.randn(samples, channels, *crop).to(device)
    target = torch.randint(0, 3, (samples, 1, *crop)).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-5)

    def run() -> dict[str, Any]:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            logits = network(image)
        loss = loss_of(logits.float(), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimiser.step()
        return {"loss": np.array(loss.item())}

    return run


def sane(results: dict[str, Arrays]) -> None:
    """The networks differ, so the losses do; both must be of a size that the loss can have."""
    for name, values in results.items():
        assert 0.1 < float(values["loss"]) < 3, (name, values)


def main() -> tuple[dict[str, Any], str]:
    """Run all rows; return what is written, as JSON and as Markdown."""
    table = Table(
        "setting", "precision", "ours", "SegResNet", "ratio", "SegResNet, channels-last", "our peak", "its peak"
    )
    rows = []
    here = "benchmarks.speed.step"
    for name, size in SIZES.items():
        for precision in ("fp32", "bf16"):
            given = {**size, "precision": precision}
            found = alternate(
                [
                    Contender("ours", f"{here}:ours", given),
                    Contender("SegResNet", f"{here}:segresnet", given),
                    Contender("SegResNet, channels-last", f"{here}:segresnet", {**given, "channels_last": True}),
                ],
                repeats=7, least_seconds=60, agree=sane,
            )  # fmt: skip
            rows.append({"setting": name, "precision": precision, **{k: v.to_json() for k, v in found.items()}})
            a, b, c = found.values()
            table.add(
                name, precision, f"{a.median:.3f} s", f"{b.median:.3f} s", f"{a.median / b.median:.2f}",
                f"{c.median:.3f} s", f"{a.peak_bytes / 2**20:.0f} MiB", f"{b.peak_bytes / 2**20:.0f} MiB",
            )  # fmt: skip
    return {"rows": rows}, table.markdown()
