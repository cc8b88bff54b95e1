"""Recipes and --set options: YAML of the wrong shape or size, settings that cannot be."""

from __future__ import annotations

import os
from typing import Any

from tests.faults.corpus.registry import malformed
from tests.faults.corpus.scene import TINY, Scene

KEY = "recipe.yaml"
GOOD = "method: mine\n"


def wrong(name: str, found: str, todo: str, content: str | bytes, where: str = KEY) -> None:
    """Register a recipe file of that content."""

    def change(scene: Scene) -> list[object]:
        return ["--recipe", scene.file(f"extra/{KEY}", content), "--set", "training.steps=1"]

    change.__name__, change.__module__ = name, __name__
    malformed("recipe", where, found, todo)(change)


def option(name: str, where: str, found: str, todo: str, *settings: Any) -> None:
    """Register --set options, or others, beside a sound recipe."""

    def change(scene: Scene) -> list[object]:
        return ["--method", "encdec", *TINY, *settings]

    change.__name__, change.__module__ = name, __name__
    malformed("recipe", where, found, todo)(change)


wrong("empty_recipe", "holds nothing, settings were expected", "such as `method: encdec`", "")
wrong(
    "recipe_list",
    "holds a list, settings were expected",
    "such as `method: encdec`",
    "- method: mine\n",
)
wrong(
    "recipe_text",
    "holds text, settings were expected",
    "such as `method: encdec`",
    "just words",
)
wrong(
    "recipe_with_tabs",
    "is not valid YAML in line 2: found character '\\t'",
    "that cannot start any token",
    "method: mine\n\tabout: x\n",
)
wrong("recipe_unclosed", "is not valid YAML in line", "expected ',' or ']'", "crop: [8, 8\n")
wrong(
    "recipe_with_an_alias",
    "uses a YAML alias (*a), which is not allowed",
    "write the value out",
    "a: &a 1\nb: *a\n",
)
wrong(
    "billion_laughs",
    "uses a YAML alias (*l0), which is not allowed",
    "write the value out",
    "l0: &l0 [lol]\n" + "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 10)),
)
wrong("recipe_of_many_levels", "nested too deeply", "shorten it", "about: " + "[" * 50_000)
wrong(
    "recipe_of_indented_levels",
    "nested too deeply (in line 21)",
    "levels",
    "".join(" " * i + "a:\n" for i in range(60)),
)
wrong(
    "recipe_that_names_code",
    "could not determine a constructor for the tag",
    "line 1",
    "about: !!python/object/apply:os.system ['ls']\n",
)
wrong(
    "recipe_with_a_key_twice",
    "names the key 'steps' twice (line 4)",
    "take one out",
    "method: m\ntraining:\n  steps: 5\n  steps: 6\n",
)
wrong("recipe_with_a_list_as_key", "is not valid YAML in line 1", "unhashable key", "[1, 2]: 3\n")
wrong(
    "two_recipes_in_a_file",
    "is not valid YAML in line 2: but found",
    "another document",
    "method: a\n---\nmethod: b\n",
)
wrong(
    "recipe_with_a_control_character",
    "is not valid YAML: special characters",
    "are not allowed",
    "method: \x07\n",
)
wrong("recipe_not_utf_8", "is not UTF-8 text (byte 8)", "save it as UTF-8", b"method: \xff\n")
wrong(
    "recipe_with_a_long_number",
    "is not valid YAML: Exceeds the limit (4300 digits) for integer string co",
    "use sys.set_int_max_str_digits() to increase the limit",
    "method: m\ncrop: " + "9" * 5000,
)
wrong("recipe_with_a_bad_date", "is not valid YAML", "month must be in 1..12", "method: m\nabout: 2001-99-99\n")
wrong(
    "unknown_key", "unknown key 'training.stps'", "did you mean 'training.steps'?", GOOD + "training: {stps: 5}\n"
)
wrong(
    "key_that_is_a_number",
    "5: Keys should be strings",
    "found '5'",
    GOOD + "5: 6\n",
)
wrong("no_method", "'method' is missing", "with --set: 'method' is missing", "about: nothing\n")
wrong(
    "text_for_a_number",
    "training.learning_rate: should be a valid number",
    "found 'fast'",
    GOOD + "training: {learning_rate: fast}\n",
)
wrong(
    "nan_for_a_number",
    "training.learning_rate: should be",
    "found 'nan'",
    GOOD + "training: {learning_rate: .nan}\n",
)
wrong(
    "infinity_for_a_number",
    "training.weight_decay: should be",
    "found 'inf'",
    GOOD + "training: {weight_decay: .inf}\n",
)
wrong(
    "number_for_an_object",
    "'training' in 'training.seed' is a single value and has no settings insi",
    "give an object",
    GOOD + "training: 5\n",
    where="--set",
)
wrong(
    "unknown_task",
    "auxiliary.x.kind: there is no 'gan'",
    "Known: ",
    GOOD + "auxiliary: {x: {kind: gan, weight: 1}}\n",
)
wrong("task_without_a_kind", "'auxiliary.x.kind' is missing", "Known: ", GOOD + "auxiliary: {x: {weight: 1}}\n")
wrong(
    "task_of_an_odd_name",
    "'../x' must be a short lower-case word",
    "auxiliary",
    GOOD + "auxiliary: {../x: {kind: vae, weight: 1}}\n",
)
wrong(
    "unknown_preset", "there is no preset 'storng'", "Did you mean 'strong'?", GOOD + "augment: storng\n", "augment"
)
wrong("crop_of_four_sides", "crop: Tuple should have at most 3 items", "not 4", GOOD + "crop: [8, 8, 8, 8]\n")


@malformed("recipe", KEY, "has 8589934592 bytes", "more than the 65536 that such a file may have")
def recipe_of_eight_gigabytes(scene: Scene) -> list[object]:
    path = scene.file(f"extra/{KEY}", "")
    os.truncate(path, 2**33)
    return ["--recipe", path]


@malformed("recipe", KEY, "does not exist", "give")
def missing_recipe(scene: Scene) -> list[object]:
    return ["--recipe", scene.extra / KEY]


@malformed("recipe", "extra", "is a folder, a file was expected", "put one there")
def recipe_that_is_a_folder(scene: Scene) -> list[object]:
    scene.extra.mkdir()
    return ["--recipe", scene.extra]


option(
    "option_without_a_value",
    "--set",
    "'training.steps' is not of the form key=value",
    "e.g.",
    "--set",
    "training.steps",
)
option("option_without_a_key", "--set", "'=5' is not of the form key=value", "e.g.", "--set", "=5")
option(
    "option_with_an_empty_part",
    "--set",
    "'training..steps=5' is not of the form key=value",
    "e.g.",
    "--set",
    "training..steps=5",
)
option(
    "option_inside_a_value",
    "--set",
    "'steps' in 'training.steps.more' is a single value",
    "no settings inside",
    "--set",
    "training.steps=1",
    "--set",
    "training.steps.more=1",
)
option(
    "option_of_many_levels",
    "--set",
    "has 5000 levels",
    "20 are the most",
    "--set",
    "a." * 4999 + "a=1",
)
option("option_of_unclosed_yaml", "--set crop", "is not valid YAML in line 1", "expected", "--set", "crop=[8,8")
option(
    "option_of_many_brackets",
    "--set crop",
    "nested too deeply or too long",
    "shorten it",
    "--set",
    "crop=" + "[" * 30_000,
)
option(
    "option_with_an_unknown_key",
    "encdec with --set",
    "unknown key 'network.widht'",
    "did you mean 'network.width'?",
    "--set",
    "network.widht=8",
)
option(
    "width_of_a_million",
    "encdec with --set",
    "network.width: should be less than or equal to",
    "found '1000000'",
    "--set",
    "network.width=1000000",
)
option(
    "blocks_of_a_million",
    "encdec with --set",
    "network.blocks: needs 2 to 7 levels with 1 to 64 blocks each",
    "found '[1000000, 1]'",
    "--set",
    "network.blocks=[1000000,1]",
)
option(
    "predictor_of_a_million_blocks",
    "with --set",
    "auxiliary.cpc.blocks: should be less than or equal to 64",
    "found '1000000'",
    "--method",
    "sscpcseg",
    "--set",
    "auxiliary.cpc.blocks=1000000",
)
option(
    "a_million_processes",
    "encdec with --set",
    "training.devices: should be less than or equal to 1024",
    "found '1000000'",
    "--devices",
    "1000000",
)
option(
    "a_million_workers",
    "encdec with --set",
    "training.workers: should be less than or equal to 1024",
    "found '1000000'",
    "--set",
    "training.workers=1000000",
)
option(
    "batch_of_a_million",
    "encdec with --set",
    "sampling.labelled: should be less than or equal to",
    "found '1000000'",
    "--set",
    "sampling.labelled=1000000",
)
option("seed_of_thirty_digits", "--seed", "less than or equal to", str(2**63 - 1), "--seed", "1" + "0" * 30)
option(
    "label_seed_of_thirty_digits",
    "--label-seed",
    "less than or equal to",
    "9223372036854775807",
    "--labels",
    "2",
    "--label-seed",
    "1" + "0" * 30,
)
option("more_labels_than_there_are", "--labels", "7 labels were asked for", "choose 1 to 3", "--labels", "7")
option(
    "validation_of_everything",
    "--validation",
    "3 validation cases out of a budget of 3",
    "leave none to train on",
    "--validation",
    "3",
)
option(
    "unknown_method", "--method", "there is no method 'sscpseg'", "Did you mean 'sscpcseg'?", "--method", "sscpseg"
)


def named(name: str, where: str, found: str, todo: str, content: str | bytes) -> None:
    """Register a file of --labelled."""

    def change(scene: Scene) -> list[object]:
        return ["--method", "encdec", *TINY, "--labelled", scene.file("extra/names.txt", content)]

    change.__name__, change.__module__ = name, __name__
    malformed("recipe", where, found, todo)(change)


named("names_of_nothing", "--labelled", "needs at least one case", "one a line", "# none\n\n")
named("names_unknown", "--labelled", "'case_0' is not a labelled training case", "Did you mean 'case_0", "case_0\n")
named("names_of_test_cases", "--labelled", "'case_05' is a test case", "no run may read", "case_05\n")
named("names_twice", "--labelled", "names 'case_00' twice", "once", "case_00\ncase_01\ncase_00\n")
named("names_not_utf_8", "names.txt", "is not UTF-8 text (byte 0)", "save it as UTF-8", b"\xff\n")
