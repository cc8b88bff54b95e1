"""What a study compares: methods, label budgets and label sets, crossed; and what must be equal between methods."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg.config import Config, load_config
from frugalseg.config.load import recipe_names
from frugalseg.errors import ConfigError, UserError, did_you_mean
from frugalseg.training.settings import TrainingSettings

ALL = "all"
USUAL_MINUTES = TrainingSettings().usual_minutes
MAX_CELLS = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,60}")


@dataclass(frozen=True, order=True)
class Cell:
    """One run of a study: a method trained on the first `labels` cases of label set `seed`."""

    method: str
    labels: int
    seed: int

    @property
    def name(self) -> str:
        """The cell's folder name."""
        return f"{self.method}-{self.labels}-{self.seed}"


@dataclass(frozen=True)
class Comparison:
    """`first` against `second`, declared before anything was run."""

    first: str
    second: str
    labels: int


@dataclass(frozen=True)
class Design:
    """The cells of a study in the order in which they are run, and what they are for.

    Attributes:
        recipes: Recipe of every method by its name: a shipped one's name, or a file.
        methods: The methods that were asked for, in that order.
        budgets: Numbers of labels, increasing.
        seeds: Seeds of the label sets, which seed weights and samples too.
        cells: All cells: those asked for, the floor's, and the ceiling's.
        floor: The method without unlabelled data that every figure shows, or None.
        ceiling: The cell with all labels that every figure shows, or None.
        primary: The declared comparisons; every other one is exploratory.
        available: Labelled cases that there are: with all of them every label set is the same.
    """

    recipes: Mapping[str, str | Path]
    methods: tuple[str, ...]
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    floor: str | None
    ceiling: Cell | None
    primary: tuple[Comparison, ...]
    available: int

    def settings_of(self, method: str, overrides: Sequence[str]) -> tuple[str, ...]:
        """Return the settings that hold for a method: "a.b=c" for all, "METHOD:a.b=c" for one alone.

        Raises:
            UserError: A setting is for a method that the study does not have.
        """
        # All networks are equally wide, whatever the length that a recipe would have by itself.
        chosen = [f"training.usual_minutes={USUAL_MINUTES:g}"]
        for override in overrides:
            name, colon, rest = override.partition("=")[0].partition(":")
            if not colon:
                chosen.append(override)
                continue
            if name not in self.recipes:
                near = did_you_mean(name, self.recipes)
                raise UserError(
                    f"{override!r} is for {name!r}, no method here.{near} There are: {', '.join(self.recipes)}",
                    "--set",
                )
            if name == method:
                chosen.append(f"{rest}={override.partition('=')[2]}")
        return tuple(chosen)


def make_design(
    methods: Sequence[str],
    labels: Sequence[str],
    seeds: Sequence[int],
    available: int,
    floor: str | None = "encdec",
    ceiling: bool = True,
    primary: Sequence[str] = (),
) -> Design:
    """Cross methods, budgets and label sets.

    Args:
        methods: Names of shipped recipes, or recipe files (named by their file name's stem).
        labels: Numbers of labels, or "all".
        seeds: Seeds of the label sets.
        available: Number of labelled training cases.
        floor: Method without unlabelled data that is run beside the others at every budget; None for none.
        ceiling: Whether to run the floor (without one: the first method) once with all labels.
        primary: Declared comparisons, such as "sscpcseg:encdec" (at every budget) or "sscpcseg:encdec@6".

    Raises:
        UserError: A method, budget or comparison that does not exist, a method or seed twice, too many cells.
    """
    recipes: dict[str, str | Path] = {}
    for method in methods:
        name, recipe = _method(method)
        if name in recipes:
            raise UserError(f"{name!r} stands twice; name each method once", "--methods")
        recipes[name] = recipe
    asked = tuple(recipes)
    if not asked:
        raise UserError("names no method, e.g. encdec,sscpcseg", "--methods")
    if floor is not None:
        name, recipe = _method(floor)
        config = load_config(recipe)
        if config.sampling.unlabelled or config.pretrain is not None:
            raise UserError(f"{name!r} trains on unlabelled volumes; a floor does without, e.g. encdec", "--floor")
        if recipes.setdefault(name, recipe) != recipe:
            raise UserError(
                f"two recipes are called {name!r}: {recipes[name]}, and the floor; rename the file, or choose "
                "another floor (or none)",
                "--floor",
            )
        floor = name
    budgets = tuple(sorted({_budget(text, available) for text in labels}))
    if not budgets:
        raise UserError("names no budget, e.g. 3,6,12,all", "--labels")
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError("needs at least one label seed, and none twice", "--label-seeds")
    # Seed by seed, small budgets first: a study that is stopped early has compared all methods on some label sets.
    cells = [Cell(name, count, seed) for seed in seeds for count in budgets for name in recipes]
    top = None
    if ceiling:
        top = Cell(floor or asked[0], available, seeds[0])
        cells += [top] if top not in cells else []
    if len(cells) > MAX_CELLS:
        raise UserError(f"{len(cells)} runs are more than the {MAX_CELLS} that a study may have", "--labels")
    declared = dict.fromkeys(one for text in primary for one in _comparisons(text, tuple(recipes), budgets))
    return Design(recipes, asked, budgets, tuple(seeds), tuple(cells), floor, top, tuple(declared), available)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the label seeds that "5" (0 to 4), "100-104" or "100,103" stand for.

    Raises:
        UserError: It is none of these.
    """
    if re.fullmatch(r"\d{1,4}", text) and int(text) > 0:
        return tuple(range(int(text)))
    seeds: list[int] = []
    if text == "0":
        raise UserError(
            "0 label sets are none; choose a number such as 5, or seeds such as 100-104", "--label-seeds"
        )
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part)
        if match is None or (match[2] and not 0 <= int(match[2]) - int(match[1]) < MAX_CELLS):
            raise UserError(
                f"{text!r} is neither a number of label sets nor seeds such as 100-104 or 3,7", "--label-seeds"
            )
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(seeds)


def require_comparable(configs: Mapping[str, Config], equal: str) -> dict[str, dict[str, Any]]:
    """Return the settings in which the methods differ: setting to method to value.

    Raises:
        UserError: At equal steps, a step of one method has another number of labelled crops, or another length of
            training was set for it: then the number of labels would not be all that differs.
    """
    dumps = {name: config.model_dump(mode="json", exclude={"method", "about"}) for name, config in configs.items()}
    flat = {name: _flat(dump) for name, dump in dumps.items()}
    keys = sorted({key for values in flat.values() for key in values})
    apart = {
        key: {name: values.get(key) for name, values in flat.items()}
        for key in keys
        if len({repr(values.get(key)) for values in flat.values()}) > 1
    }
    if equal == "steps" and "sampling.labelled" in apart:
        told = ", ".join(f"{name}: {value}" for name, value in apart["sampling.labelled"].items())
        raise UserError(
            f"at equal steps every method needs as many labelled crops a step, these differ ({told}); "
            "set sampling.labelled for all with --set",
            "sampling.labelled",
        )
    return apart


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        parts = [_flat(inner, f"{prefix}.{name}") for name, inner in value.items()]
        return {key: item for part in parts for key, item in part.items()}
    return {prefix.removeprefix("."): value}


def _method(text: str) -> tuple[str, str | Path]:
    text = text.strip()
    if text in recipe_names():
        return text, text
    if text.endswith((".yaml", ".yml")):
        path = Path(text)
        load_config(path)
        if not _NAME.fullmatch(path.stem):
            raise ConfigError(
                "its name must be letters, digits, dots and dashes, because folders are named by it", path
            )
        return path.stem, path
    known = recipe_names()
    told = f"there is no method {text!r}.{did_you_mean(text, known)} Known: {', '.join(known)}"
    raise UserError(told, "--methods")


def _budget(text: str, available: int) -> int:
    text = text.strip()
    if text == ALL:
        return available
    if not re.fullmatch(r"\d{1,6}", text) or not 1 <= int(text) <= available:
        raise UserError(
            f"{text!r} is no number of labels; choose 1 to {available} (labelled cases), or {ALL}", "--labels"
        )
    return int(text)


def _comparisons(text: str, methods: tuple[str, ...], budgets: tuple[int, ...]) -> list[Comparison]:
    match = re.fullmatch(r"([^:@]+):([^:@]+)(?:@(\d{1,6}))?", text.strip())
    if match is None:
        raise UserError(f"{text!r} is not of the form METHOD:METHOD or METHOD:METHOD@LABELS", "--primary")
    for name in (match[1], match[2]):
        if name not in methods:
            raise UserError(f"there is no method {name!r} in this study.{did_you_mean(name, methods)}", "--primary")
    if match[1] == match[2]:
        raise UserError(f"{match[1]!r} cannot be compared with itself", "--primary")
    if match[3] and int(match[3]) not in budgets:
        raise UserError(f"{match[3]} is no budget of this study ({', '.join(map(str, budgets))})", "--primary")
    chosen = (int(match[3]),) if match[3] else budgets
    return [Comparison(match[1], match[2], count) for count in chosen]
