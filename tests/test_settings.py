"""What settings refuse that a conversion would let pass."""

from __future__ import annotations

import pytest

from frugalseg.config import load_config
from frugalseg.errors import ConfigError


@pytest.mark.parametrize("setting", ["training.steps=true", "augment.rotate=yes", "sampling.labelled=true"])
def test_yes_is_no_number(setting: str) -> None:
    with pytest.raises(ConfigError, match="which says yes or no; give a value"):
        load_config("encdec", [setting])


def test_yes_is_yes_where_that_is_asked() -> None:
    assert load_config("encdec", ["training.deterministic=true"]).training.deterministic
    assert not load_config("encdec", ["inference.flips=false"]).inference.flips
