"""Methods, budgets and label sets crossed; what cannot be compared is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalseg.config import load_config
from frugalseg.errors import UserError
from frugalseg.study.design import Cell, Comparison, make_design, parse_seeds, require_comparable


def test_every_method_at_every_budget_and_label_set_and_the_ceiling_once() -> None:
    design = make_design(["sscpcseg", "cpcseg"], ["6", "3"], (0, 1), 20)
    assert design.budgets == (3, 6)
    assert tuple(design.recipes) == ("sscpcseg", "cpcseg", "encdec")
    assert len(design.cells) == 3 * 2 * 2 + 1
    assert design.ceiling == Cell("encdec", 20, 0) == design.cells[-1]
    # Stopped after the first label set, every method has been run on it.
    assert {cell.seed for cell in design.cells[:6]} == {0}


def test_all_is_a_budget_and_then_the_ceiling_is_not_run_twice() -> None:
    design = make_design(["encdec"], ["3", "all"], (4,), 20)
    assert [cell.name for cell in design.cells] == ["encdec-3-4", "encdec-20-4"]
    assert design.ceiling == Cell("encdec", 20, 4)


def test_without_floor_and_ceiling() -> None:
    design = make_design(["sscpcseg"], ["3"], (0,), 20, floor=None, ceiling=False)
    assert [cell.name for cell in design.cells] == ["sscpcseg-3-0"]


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (0, 1, 2)), ("100-102", (100, 101, 102)), ("7,3", (7, 3)), ("1,5-6", (1, 5, 6))]
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "", "a", "5-3", "1,,2", "-1", "1.5"])
def test_no_seeds(text: str) -> None:
    with pytest.raises(UserError, match="--label-seeds: "):
        parse_seeds(text)


def test_declared_comparisons() -> None:
    design = make_design(["sscpcseg"], ["3", "6"], (0,), 20, primary=["sscpcseg:encdec", "sscpcseg:encdec@6"])
    both, single = Comparison("sscpcseg", "encdec", 3), Comparison("sscpcseg", "encdec", 6)
    assert design.primary == (both, single)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["sscpcsg"]}, r"--methods: there is no method 'sscpcsg'. Did you mean 'sscpcseg'"),
        ({"methods": ["encdec", "encdec"]}, r"--methods: 'encdec' stands twice"),
        ({"labels": ["21"]}, r"--labels: '21' is no number of labels; choose 1 to 20"),
        ({"labels": ["3.5"]}, r"--labels: '3.5' is no number"),
        ({"seeds": (1, 1)}, r"--label-seeds: needs at least one label seed, and none twice"),
        ({"floor": "sscpcseg"}, r"--floor: 'sscpcseg' trains on unlabelled volumes"),
        ({"primary": ["sscpcseg"]}, r"--primary: 'sscpcseg' is not of the form"),
        ({"primary": ["vaeseg:encdec"]}, r"--primary: there is no method 'vaeseg' in this study"),
        ({"primary": ["cpcseg:encdec@12"]}, r"--primary: 12 is no budget of this study \(3\)"),
        ({"primary": ["cpcseg:cpcseg"]}, r"cannot be compared with itself"),
    ],
)
def test_wrong_designs(arguments: dict[str, object], message: str) -> None:
    wanted: dict[str, object] = {"methods": ["cpcseg"], "labels": ["3"], "seeds": (0,), "available": 20}
    with pytest.raises(UserError, match=message):
        make_design(**{**wanted, **arguments})  # type: ignore[arg-type]


def test_a_recipe_file_is_a_method_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_text("method: encdec\nnetwork: {width: 16}\n")
    design = make_design([str(path)], ["3"], (0,), 20)
    assert design.methods == ("wide",)
    assert design.recipes["wide"] == path


def test_what_differs_is_listed_and_unequal_labelled_crops_are_refused() -> None:
    configs = {name: load_config(name) for name in ("encdec", "sscpcseg")}
    apart = require_comparable(configs, "steps")
    assert set(apart["sampling.unlabelled"].values()) == {0, 2}
    assert apart["auxiliary.cpc.weight"] == {"encdec": None, "sscpcseg": 0.05}
    assert not any(key.startswith(("augment", "training", "network")) for key in apart)
    configs["encdec"] = load_config("encdec", ["sampling.labelled=4"])
    with pytest.raises(UserError, match=r"encdec: 4, sscpcseg: 2"):
        require_comparable(configs, "steps")
    require_comparable(configs, "time")


def test_settings_for_all_and_for_one() -> None:
    design = make_design(["sscpcseg"], ["3"], (0,), 20)
    overrides = ["network.width=8", "sscpcseg:auxiliary.cpc.weight=0.1", "training.steps=7"]
    as_wide = "training.usual_minutes=12"  # so that no method has a wider network than the others
    assert design.settings_of("encdec", overrides) == (as_wide, "network.width=8", "training.steps=7")
    assert design.settings_of("sscpcseg", overrides)[2] == "auxiliary.cpc.weight=0.1"
    with pytest.raises(UserError, match=r"--set: 'sscpcsg:a=1' is for 'sscpcsg', no .*Did you mean 'sscpcseg'"):
        design.settings_of("encdec", ["sscpcsg:a=1"])


def test_a_file_that_is_called_as_the_floor_is_not_taken_for_it(tmp_path: Path) -> None:
    own = tmp_path / "encdec.yaml"
    own.write_text(
        "method: encdec\nsampling: {unlabelled: 2}\nsemisup: {kind: teacher}\ntraining: {average: 0.99}\n"
    )
    with pytest.raises(UserError, match=r"--floor: two recipes are called 'encdec'"):
        make_design([str(own), "mean-teacher"], ["3"], (0,), 20)
    assert make_design([str(own)], ["3"], (0,), 20, floor=None).floor is None
