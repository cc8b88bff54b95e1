"""Train nnU-Net alone, on a machine that has a card and what was planned, but none of its image readers.

nnU-Net's own command trains and then predicts the training cases; this is its trainer without the latter, and
without the picture of its curves after each epoch, which takes as long as the epoch's steps on such small images.
What is learnt does not depend on either. What a prediction needs of the last checkpoint is kept by itself.

Command, in nnU-Net's environment: python elsewhere.py EPOCHS DEVICE OUT
Writes OUT/{weights.pth, record.json}. Its folders are told by nnU-Net's own variables.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from nnunetv2.run.run_training import get_trainer_from_args

KEPT = ("network_weights", "init_args", "trainer_name", "inference_allowed_mirroring_axes")


def main(epochs: int, device: str, out: Path) -> None:
    """Train from the beginning to the schedule's end."""
    name = f"nnUNetTrainer_{epochs}epochs"
    trainer = get_trainer_from_args("701", "3d_fullres", "all", name, "nnUNetPlans", device=torch.device(device))
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
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "torch": torch.__version__,
        "cores": len(os.sched_getaffinity(0)),
        "processes": os.environ.get("nnUNet_n_proc_DA"),  # noqa: SIM112
        "compiled": type(trainer.network).__name__ == "OptimizedModule",
        "training_seconds": round(seconds, 1),
        "card_peak_bytes": torch.cuda.max_memory_reserved() if device == "cuda" else None,
        "epochs": trainer.current_epoch,
    }
    (out / "record.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
