"""Recipes parse; mistakes are told with the key that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalseg.config import Config, load_config, recipe_names
from frugalseg.config.load import parse_yaml, save_config
from frugalseg.errors import ConfigError
from frugalseg.objectives import VaeSettings


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_parses_and_survives_saving(name: str) -> None:
    config = load_config(name)
    assert config.method == name
    assert config.about
    assert Config.model_validate(parse_yaml(save_config(config), "saved")) == config


def test_the_six_models_differ_only_in_task_and_unlabelled_share() -> None:
    plain = load_config("encdec")
    assert not plain.auxiliary
    assert plain.sampling.unlabelled == 0
    own = {"method", "about", "sampling", "auxiliary"}
    for kind, alone, semi in (
        ("cpc", "cpcseg", "sscpcseg"),
        ("vae", "vaeseg", "ssvaeseg"),
        ("boundary", "boundseg", ""),
    ):
        one = load_config(alone)
        assert [task.kind for task in one.auxiliary.values()] == [kind]
        assert one.sampling == plain.sampling
        assert one.model_dump(exclude=own) == plain.model_dump(exclude=own)
        if semi:
            two = load_config(semi)
            assert two.auxiliary == one.auxiliary
            assert two.sampling.unlabelled == two.sampling.labelled == one.sampling.labelled
            assert two.model_dump(exclude=own) == plain.model_dump(exclude=own)


def test_the_published_weights_of_the_vae_and_boundary_losses() -> None:
    vae = load_config("vaeseg").auxiliary["vae"]
    assert isinstance(vae, VaeSettings)
    assert (vae.weight, vae.mse_weight, vae.kl_weight, vae.latent) == (1, 0.1, 0.1, 128)
    boundary = load_config("boundseg").auxiliary["boundary"]
    assert boundary.weight == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainig.steps=3", "did you mean 'training'"),
        ("training.stps=3", "did you mean 'training.steps'"),
        ("auxiliary.cpc.wieght=3", "did you mean 'auxiliary.cpc.weight'"),
        ("auxiliary.cpc.weight=-1", "greater than 0"),
        ("network.width=12", "multiple of 8"),
        ("training.precision=fp64", "'auto', 'fp32' or 'bf16'"),
        (
            "auxiliary.x.kind=vea",
            "auxiliary.x.kind: there is no 'vea'. Did you mean 'vae'? Known: cpc, vae, boundary",
        ),
        ("auxiliary.x.kind=zzz", "auxiliary.x.kind: there is no 'zzz'. Known: cpc, vae, boundary"),
        ("auxiliary.x.weight=1", "'auxiliary.x.kind' is missing. Known: cpc, vae, boundary"),
        ("auxiliary.x={kind: vae, mse_wieght: 1}", "did you mean 'auxiliary.x.mse_weight'"),
        (
            "auxiliary.x={kind: boundary, latent: 1}",
            "unknown key 'auxiliary.x.latent'; there are: balance, beyond,",
        ),
        ("auxiliary.x={kind: vae, latent: 0}", "auxiliary.x.latent: should be greater than or equal to 1"),
        ("auxiliary.x={kind: boundary, balance: rear}", "auxiliary.x.balance: should be 'rare' or 'published'"),
        ("auxiliary.x=3", "auxiliary.x: should be an object with settings (found '3')"),
        ("auxiliary.X={kind: vae}", "short lower-case word"),
        ("auxiliary.cpc.gap=-1", "auxiliary.cpc.gap: should be greater than or equal to 0"),
        ("network=3", "network: should be an object with settings"),
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
