"""Train nnU-Net alone, on a machine that has a card and what was planned, but none of its image readers.

nnU-Net's own command trains and then predicts the training cases; this is its trainer without the latter, and
without the picture of its curves after each epoch, which on such small images takes part of the epoch's time. What
is learnt does not depend on either. What a prediction needs of the last checkpoint is kept by itself.

Command, in nnU-Net's environment: python elsewhere.py EPOCHS DEVICE OUT
Writes OUT/{weights.pth, record.json}. Its folders are told by nnU-Net's own variables; nothing of frugalseg is
imported, so that this file and WORK/LABELS-SEED/{preprocessed, raw/*/dataset.json} are all that has to travel.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from nnunetv2.run.run_training import get_trainer_from_args

NUMBER, CONFIGURATION = "701", "3d_fullres"  # those of convert.py and __main__.py
KEPT = ("network_weights", "init_args", "trainer_name", "inference_allowed_mirroring_axes")
NAMES = {1: "nnUNetTrainer_1epoch", 1000: "nnUNetTrainer"}


def main(epochs: int, device: str, out: Path) -> None:
    """Train from the beginning to the schedule's end."""
    name = NAMES.get(epochs, f"nnUNetTrainer_{epochs}epochs")
    torch.set_num_threads(1)  # these three are what nnU-Net's command sets
    if device == "cuda":
        torch.set_num_interop_threads(1)
        torch.backends.cudnn.benchmark = True
    trainer = get_trainer_from_args(NUMBER, CONFIGURATION, "all", name, "nnUNetPlans", device=torch.device(device))
    trainer.logger.plot_progress_png = lambda *_: None
    begun = time.monotonic()
    trainer.run_training()
    seconds = time.monotonic() - begun
    folder = Path(trainer.output_folder)
    found = torch.load(folder / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    out.mkdir(parents=True, exist_ok=True)
    torch.save({key: found[key] for key in KEPT}, out / "weights.pth")
    record = {
        "trainer": name,
        "labelled": sorted(trainer.do_split()[0]),
        "training_seconds": round(seconds, 1),
        "trained_on": {
            "device": torch.cuda.get_device_name() if device == "cuda" else device,
            "torch": torch.__version__,
            "cores": len(os.sched_getaffinity(0)),
            "augmenting": os.environ.get("nnUNet_n_proc_DA"),  # noqa: SIM112
            "compiled": type(trainer.network).__name__ == "OptimizedModule",
            "card_peak_bytes": torch.cuda.max_memory_reserved() if device == "cuda" else None,
        },
    }
    (out / "record.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
