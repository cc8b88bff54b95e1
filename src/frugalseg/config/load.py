"""Reading a recipe, applying `--set a.b=c`, and telling mistakes with the key that was probably meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from frugalseg.config.mistakes import explain
from frugalseg.config.schema import Config
from frugalseg.data.augment import PRESETS
from frugalseg.data.names import kind_of
from frugalseg.errors import ConfigError, did_you_mean
from frugalseg.files import read_text

MAX_BYTES = 2**16  # the parser takes some seconds for as much
MAX_DEPTH = 20
MAX_BRACKETS = 2000


def recipe_names() -> list[str]:
    """Return the names of the recipes that are shipped."""
    folder = resources.files("frugalseg") / "recipes"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def split_text(name: str) -> str:
    """Return a shipped split's file (JSON): names of the cases that train, validate and test.

    Raises:
        ConfigError: There is none of that name.
    """
    folder = resources.files("frugalseg") / "recipes" / "splits"
    known = sorted(item.name.removesuffix(".json") for item in folder.iterdir() if item.name.endswith(".json"))
    if name not in known:
        raise ConfigError(
            f"there is no split {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}", "NAME"
        )
    return (folder / f"{name}.json").read_text(encoding="utf-8")


def recipe_text(name: str) -> str:
    """Return a shipped recipe's file.

    Raises:
        ConfigError: There is none of that name.
    """
    known = recipe_names()
    if name not in known:
        raise ConfigError(
            f"there is no method {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}", "--method"
        )
    return (resources.files("frugalseg") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def load_config(recipe: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe by name, or a YAML file, and apply overrides such as "training.steps=100".

    Raises:
        ConfigError: The file is no YAML object, a key does not exist, or a value cannot be; the first three
            mistakes in one line, with the nearest key.
    """
    where: str | Path = recipe
    if isinstance(recipe, Path):
        content = parse_yaml(read_text(recipe, MAX_BYTES), recipe)
    else:
        content = parse_yaml(recipe_text(recipe), recipe)
    if not isinstance(content, dict):
        raise ConfigError(
            f"holds {kind_of(content)}, settings were expected (a YAML object, such as `method: encdec`)", where
        )
    _expand_preset(content)
    for override in overrides:
        _set(content, override)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(error, Config), where if not overrides else f"{where} with --set") from error


def save_config(config: Config) -> str:
    """Return the configuration as YAML, every setting written out."""
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110))


class _OnceLoader(yaml.SafeLoader):
    """The safe loader, in which no key may stand twice: the one meant to count could be either."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise ValueError(f"it names the key {key.value[:80]!r} twice (line {line}); take one out")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str | Path) -> Any:
    """Parse YAML without anchors (which can grow without bound) and without tags.

    Raises:
        ConfigError: It is not YAML; names the line.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"has {len(text)} characters, more than the {MAX_BYTES} that settings may have", where)
    if max(text.count("["), text.count("{")) > MAX_BRACKETS:  # the parser's time grows with their square
        raise ConfigError(f"is nested too deeply or too long: over {MAX_BRACKETS} brackets; shorten it", where)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(
                    f"uses a YAML alias (*{event.anchor}), which is not allowed; write the value out", where
                )
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark is not None else "?"
                raise ConfigError(f"is nested too deeply (in line {line}), {MAX_DEPTH} levels are the most", where)
        loader = _OnceLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(
            f"is not valid YAML{line}: {getattr(error, 'problem', None) or getattr(error, 'reason', 'malformed')}",
            where,
        ) from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"is not valid YAML: {error}", where) from error


def _expand_preset(content: dict[str, Any]) -> None:
    """Replace `augment: strong` by the preset's settings, so that single ones can be set."""
    name = content.get("augment")
    if isinstance(name, str):
        if name not in PRESETS:
            raise ConfigError(f"there is no preset {name!r}.{did_you_mean(name, PRESETS)}", "augment")
        content["augment"] = PRESETS[name].model_dump(mode="json")


def _set(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if len(parts) > MAX_DEPTH:
        raise ConfigError(f"{key[:40]!r}... has {len(parts)} levels, {MAX_DEPTH} are the most", "--set")
    if not equals or not all(parts):
        raise ConfigError(f"{override[:200]!r} is not of the form key=value, e.g. training.steps=100", "--set")
    value = parse_yaml(text, f"--set {key[:200]}")
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        value = float(value)  # YAML 1.1 takes 1e-3 for text
    place = content
    for part in parts[:-1]:
        inner = place.setdefault(part, {})
        if inner is None:
            inner = place[part] = {}
        if not isinstance(inner, dict):
            raise ConfigError(
                f"{part[:60]!r} in {key[:200]!r} is a single value and has no settings inside; give an object",
                "--set",
            )
        place = inner
    place[parts[-1]] = value
    _expand_preset(content)
