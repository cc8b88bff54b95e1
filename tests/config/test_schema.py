"""The schema: closed at every level, frozen, described, and with ranges whose ends are as written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from frugalseg.config import Config, load_config, recipe_names
from frugalseg.config.load import parse_yaml, recipe_text
from frugalseg.errors import ConfigError

FULL = {name: load_config(name) for name in recipe_names()}


def levels(value: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every object in a configuration, with its path; `auxiliary` itself holds free names and is left out."""
    if above[-1:] != ("auxiliary",):
        yield above, value
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from levels(inner, (*above, name))


ALL_LEVELS = sorted({(recipe, path) for recipe, full in FULL.items() for path, _ in levels(full.model_dump())})


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_key_of_every_recipe_is_a_setting_and_is_taken_over(recipe: str) -> None:
    dumped = FULL[recipe].model_dump(mode="json")
    text = parse_yaml(recipe_text(recipe), recipe)

    def compare(written: dict[str, Any], found: dict[str, Any], path: str) -> None:
        for key, value in written.items():
            assert key in found, f"{path}{key}"
            if isinstance(value, dict):
                compare(value, found[key], f"{path}{key}.")
            elif path + key != "augment":  # a preset's name
                assert found[key] == value, f"{path}{key}"

    compare(text, dumped, "")


@pytest.mark.parametrize(("recipe", "path"), ALL_LEVELS)
def test_an_unknown_key_at_any_level_is_refused_with_its_path(recipe: str, path: tuple[str, ...]) -> None:
    key = ".".join([*path, "zzz"])
    with pytest.raises(ConfigError) as caught:
        load_config(recipe, [f"{key}=1"])
    assert f"unknown key '{key}'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("recipe", "path"), ALL_LEVELS)
def test_a_misspelt_key_at_any_level_is_answered_with_the_right_one(recipe: str, path: tuple[str, ...]) -> None:
    here: Any = FULL[recipe].model_dump()
    for part in path:
        here = here[part]
    longest = max(here, key=len)
    with pytest.raises(ConfigError) as caught:
        load_config(recipe, [f"{'.'.join([*path, longest[:-2] + longest[-1]])}=1"])
    assert f"did you mean {'.'.join([*path, longest])!r}" in str(caught.value)


# The least and the largest value that may be, and the nearest beyond that may not.
ENDS: list[tuple[str, list[Any], list[Any]]] = [
    ("crop", [[8, 8, 8], [1024, 8, 8]], [[0, 8, 8], [1025, 8, 8], [8, 8], [8.5, 8, 8]]),
    ("mirror_axes", [[], ["x", "y", "z"]], [["w"], "q"]),
    ("sampling.labelled", [1, 4096], [-1, 1.5, 4097]),
    ("sampling.unlabelled", [0], [-1]),
    ("sampling.foreground", [0, 1], [-0.01, 1.01]),
    ("sampling.mix", ["fixed", "published"], ["none"]),
    ("augment.mirror", [0, 1], [-0.01, 1.01]),
    ("augment.rotate_degrees", [0, 180], [-1, 181]),
    ("preprocess.normalise", ["zscore"], ["none"]),
    ("network.width", [8, 512, None], [0, 12, 520]),
    ("network.dropout", [0, 0.99], [1, -0.1]),
    ("training.steps", [1, None], [0, 2.5]),
    ("training.minutes", [0.001], [0, -1]),
    ("training.learning_rate", [1e-9], [0]),
    ("training.weight_decay", [0], [-1e-9]),
    ("training.warmup", [0, 0.99], [1]),
    ("training.clip", [0.1, None], [0]),
    ("training.average", [0.01, 0.99, None], [0, 1]),
    ("training.seed", [0, 2**63 - 1], [-1, 2**63]),
    ("training.workers", [0, None], [-1]),
    ("training.checkpoint_seconds", [0.001], [0]),
    ("training.validate_every", [1], [0]),
    ("training.device", ["auto", "cpu", "cuda"], ["gpu"]),
    ("training.schedule", ["poly", "cosine", "constant"], ["linear"]),
    ("inference.overlap", [0, 0.9], [-0.1, 0.91]),
    ("inference.batch", [1], [0]),
]


def with_value(key: str, value: Any) -> dict[str, Any]:
    content = FULL["encdec"].model_dump(mode="json")
    *parts, last = key.split(".")
    here = content
    for part in parts:
        here = here[part]
    here[last] = value
    return content


@pytest.mark.parametrize(("key", "allowed", "refused"), ENDS)
def test_the_ends_of_the_ranges(key: str, allowed: list[Any], refused: list[Any]) -> None:
    for value in allowed:
        found: Any = Config.model_validate(with_value(key, value))
        for part in key.split("."):
            found = getattr(found, part)
        assert (list(found) if isinstance(found, tuple) else found) == value
    for value in [*refused, {"a": 1}]:
        with pytest.raises(ValidationError) as caught:
            Config.model_validate(with_value(key, value))
        assert ".".join(str(part) for part in caught.value.errors()[0]["loc"]).startswith(key)


@pytest.mark.parametrize("key", ["training.learning_rate", "inference.overlap", "augment.scale_range"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_is_nan_or_infinite(key: str, value: float) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(with_value(key, (value, value) if key.endswith("range") else value))


def test_one_length_only() -> None:
    with pytest.raises(ConfigError, match="steps and minutes are both set; choose one"):
        load_config("encdec", ["training.steps=5", "training.minutes=5"])


@pytest.mark.parametrize("name", ["Cpc", "a b", "1x", "x" * 32, "a.b", ""])
def test_a_task_has_a_short_lower_case_name(name: str) -> None:
    content = FULL["cpcseg"].model_dump(mode="json")
    content["auxiliary"] = {name: content["auxiliary"]["cpc"]}
    with pytest.raises(ValidationError, match="short lower-case word"):
        Config.model_validate(content)
    content["auxiliary"] = {"a_1": content["auxiliary"][name]}
    assert set(Config.model_validate(content).auxiliary) == {"a_1"}


@pytest.mark.parametrize("name", ["segmentation", "consistency", "dice", "keys", "forward"])
def test_a_task_is_not_called_like_what_there_is_already(name: str) -> None:
    """It would replace the loss of that name, and what learns from labels would have no gradient."""
    content = FULL["cpcseg"].model_dump(mode="json")
    content["auxiliary"] = {name: content["auxiliary"]["cpc"]}
    with pytest.raises(ValidationError, match="is a name that is taken"):
        Config.model_validate(content)


def models(value: BaseModel) -> Iterator[BaseModel]:
    yield value
    for name in type(value).model_fields:
        inner = getattr(value, name)
        for item in inner.values() if isinstance(inner, dict) else (inner,):
            if isinstance(item, BaseModel):
                yield from models(item)


@pytest.mark.parametrize("recipe", recipe_names())
def test_settings_are_frozen_and_single_ones_described(recipe: str) -> None:
    for model in models(FULL[recipe]):
        for name, field in type(model).model_fields.items():
            with pytest.raises(ValidationError, match="frozen"):
                setattr(model, name, getattr(model, name))
            single = not isinstance(getattr(model, name), BaseModel)
            assert not single or field.description or name == "method", f"{type(model).__name__}.{name}"


def test_no_labelled_crop_needs_unlabelled_ones() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.labelled=0 leaves nothing to train on"):
        load_config("encdec", ["sampling.labelled=0"])
    with pytest.raises(ConfigError, match=r"sampling\.labelled=0 leaves nothing to train on"):
        load_config("sscpcseg", ["sampling.labelled=0", "sampling.mix=published"])


def test_a_pre_training_has_its_own_length_crops_and_tasks_and_all_else_of_the_training() -> None:
    config = load_config("cpc-then-encdec", ["pretrain.learning_rate=0.5", "training.minutes=3", "crop=[8,8,8]"])
    before = config.of_pretraining()
    assert (before.training.steps, before.training.minutes, before.training.learning_rate) == (1000, None, 0.5)
    assert (before.sampling.labelled, before.sampling.unlabelled) == (0, 2)
    assert list(before.auxiliary) == ["cpc"]
    assert not config.auxiliary
    assert (before.crop, before.augment, before.pretrain) == (config.crop, config.augment, None)
    # What it is long for is the training that takes its width over.
    assert before.training.usual_minutes == 3
    assert load_config("cpc-then-encdec").of_pretraining().training.usual_minutes == 12
