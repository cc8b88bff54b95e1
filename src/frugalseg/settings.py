"""The base of every settings model: closed (an unknown key is an error), frozen, no silent conversions."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Typed settings of one part of the program; see `frugalseg.config` for how files and options fill them."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
