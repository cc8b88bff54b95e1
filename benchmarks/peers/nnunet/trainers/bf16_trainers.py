"""nnU-Net's trainer with its network in bfloat16 on a processor, as it has half precision on a GPU by itself.

nnU-Net asks for autocast on a GPU alone. A processor that multiplies matrices in bfloat16 takes 0.92 s a step
with it instead of 2.1 (one core, Intel AMX, two crops of 40 x 56 x 40), and our own runs compute so: without it the
peer would have half the steps in the same time. The loss is computed in single precision. Nothing else is changed.

nnU-Net finds this by the variable nnUNet_extTrainer; it runs in the peers' environment, not in ours.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class BF16Trainer(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net's trainer; its network computes in bfloat16, on those cores alone that the process may use."""

    def initialize(self) -> None:
        super().initialize()
        torch.set_num_threads(len(os.sched_getaffinity(0)))  # nnU-Net takes all of the machine's
        full = self.network.forward

        def forward(image: torch.Tensor) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                found = full(image)
            return [logits.float() for logits in found] if isinstance(found, list | tuple) else found.float()

        self.network.forward = forward


class nnUNetTrainer_10epochs_bf16(BF16Trainer):
    def __init__(self, plans: Any, configuration: Any, fold: Any, dataset_json: Any, device: Any) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 10


class nnUNetTrainer_20epochs_bf16(BF16Trainer):
    def __init__(self, plans: Any, configuration: Any, fold: Any, dataset_json: Any, device: Any) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 20


class nnUNetTrainer_50epochs_bf16(BF16Trainer):
    def __init__(self, plans: Any, configuration: Any, fold: Any, dataset_json: Any, device: Any) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 50
