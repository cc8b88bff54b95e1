"""Objectives: the supervised loss, and the registry of auxiliary tasks.

To add a task: one file beside this one, and its settings in `AnyTask` (see docs/add-a-task.md).
"""

from typing import Annotated

from pydantic import Field

from frugalseg.objectives.base import Batch, Shapes, Task, TaskSettings
from frugalseg.objectives.boundary import BoundarySettings, BoundaryStream
from frugalseg.objectives.cpc import ContrastivePredictiveCoding, CpcSettings
from frugalseg.objectives.deep_supervision import DeepSupervision, DeepSupervisionSettings
from frugalseg.objectives.reconstruction import MaskedReconstruction, ReconstructionSettings
from frugalseg.objectives.segmentation import SegmentationLoss, SegmentationSettings
from frugalseg.objectives.vae import VaeSettings, VariationalAutoEncoder

# The registry: every auxiliary task, told apart by `kind`.
AnyTask = Annotated[
    CpcSettings | VaeSettings | BoundarySettings | ReconstructionSettings | DeepSupervisionSettings,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyTask",
    "Batch",
    "BoundarySettings",
    "BoundaryStream",
    "ContrastivePredictiveCoding",
    "CpcSettings",
    "DeepSupervision",
    "DeepSupervisionSettings",
    "MaskedReconstruction",
    "ReconstructionSettings",
    "SegmentationLoss",
    "SegmentationSettings",
    "Shapes",
    "Task",
    "TaskSettings",
    "VaeSettings",
    "VariationalAutoEncoder",
]
