"""The base of every settings model: closed (an unknown key is an error), frozen, no silent conversions."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Side = Annotated[int, Field(ge=1, le=1024)]
"""A side of a crop, patch or block, in voxels."""


class Settings(BaseModel):
    """Typed settings of one part of the program; see `frugalseg.config` for how files and options fill them."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
