"""How unlabelled volumes are used through the segmentation itself. This is the registry: a way is a line here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from frugalseg.semisup.atlas import AtlasSettings
from frugalseg.semisup.base import Semisup, SemisupSettings
from frugalseg.semisup.copy_paste import CopyPasteSettings
from frugalseg.semisup.pseudo_labels import PseudoLabelSettings
from frugalseg.semisup.teacher import Teacher

AnySemisup = Annotated[PseudoLabelSettings | CopyPasteSettings, Field(discriminator="kind")]

__all__ = [
    "AnySemisup",
    "AtlasSettings",
    "CopyPasteSettings",
    "PseudoLabelSettings",
    "Semisup",
    "SemisupSettings",
    "Teacher",
]
