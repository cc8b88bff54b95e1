"""Recipes parse; mistakes are told with the key that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalseg.config import Config, load_config, recipe_names
from frugalseg.config.load import parse_yaml, save_config
from frugalseg.errors import ConfigError


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_parses_and_survives_saving(name: str) -> None:
    config = load_config(name)
    assert config.method == name
    assert config.about
    assert Config.model_validate(parse_yaml(save_config(config), "saved")) == config


def test_the_methods_differ_only_in_task_and_unlabelled_share() -> None:
    plain, cpc, semi = (load_config(name) for name in ("encdec", "cpcseg", "sscpcseg"))
    assert not plain.auxiliary
    assert cpc.auxiliary == semi.auxiliary
    assert (plain.sampling.unlabelled, cpc.sampling.unlabelled, semi.sampling.unlabelled) == (0, 0, 2)
    same = {"method", "about", "sampling", "auxiliary"}
    assert plain.model_dump(exclude=same) == semi.model_dump(exclude=same)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainig.steps=3", "did you mean 'training'"),
        ("training.stps=3", "did you mean 'training.steps'"),
        ("auxiliary.cpc.wieght=3", "did you mean 'auxiliary.cpc.weight'"),
        ("auxiliary.cpc.weight=-1", "greater than 0"),
        ("network.width=12", "multiple of 8"),
        ("training.precision=fp64", "'auto', 'fp32' or 'bf16'"),
        ("auxiliary.x.kind=vae", "auxiliary.x.kind"),
        ("augment=stron", "Did you mean 'strong'"),
        ("augment.scale_range=[2, 1]", "above the upper end"),
        ("training.steps", "key=value"),
        ("method.a=1", "single value"),
        ("training.learning_rate=.nan", "finite"),
        ("crop=[1, 2]", "crop"),
    ],
)
def test_mistakes(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("sscpcseg", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides() -> None:
    config = load_config("sscpcseg", ["training.learning_rate=3e-4", "augment=published", "augment.shift=0"])
    assert config.training.learning_rate == 3e-4
    assert config.augment.scale_range == (0.9, 1.1)
    assert config.augment.shift == 0


def test_a_misspelt_method() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'sscpcseg'"):
        load_config("sscpseg")


@pytest.mark.parametrize("text", ["a: &x [1]\nb: *x", "a: !!python/object:os.system x", "[1, 2", "- 1", ""])
def test_strange_yaml(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_config(path)
