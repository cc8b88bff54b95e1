"""Objectives: the supervised loss, and the registry of auxiliary tasks.

To add a task: one file beside this one, and its settings in `AnyTask` (see docs/add-a-task.md).
"""

from frugalseg.objectives.base import Batch, Shapes, Task, TaskSettings
from frugalseg.objectives.cpc import ContrastivePredictiveCoding, CpcSettings
from frugalseg.objectives.segmentation import SegmentationLoss, SegmentationSettings

# The registry: every auxiliary task, told apart by `kind`. With a second member it becomes
# Annotated[CpcSettings | OtherSettings, Field(discriminator="kind")].
AnyTask = CpcSettings

__all__ = [
    "AnyTask",
    "Batch",
    "ContrastivePredictiveCoding",
    "CpcSettings",
    "SegmentationLoss",
    "SegmentationSettings",
    "Shapes",
    "Task",
    "TaskSettings",
]
