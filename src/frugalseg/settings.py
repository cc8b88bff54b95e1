"""The base of every settings model: closed (an unknown key is an error), frozen, and yes or no is no number."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Side = Annotated[int, Field(ge=1, le=1024)]
"""A side of a crop, patch or block, in voxels."""


class Settings(BaseModel):
    """Typed settings of one part of the program; see `frugalseg.config` for how files and options fill them."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _no_number_is_yes_or_no(cls, values: Any) -> Any:
        """Refuse `true` where a number is asked for: `augment.rotate=true` would be a chance of 1."""
        if isinstance(values, dict):
            for name, field in cls.model_fields.items():
                if isinstance(values.get(name), bool) and not _takes_bool(field.annotation):
                    raise ValueError(f"{name} is {str(values[name]).lower()}, which says yes or no; give a value")
        return values


def _takes_bool(annotation: Any) -> bool:
    """Whether yes or no is among what a field may hold."""
    return annotation in (bool, Any) or any(_takes_bool(part) for part in get_args(annotation))
