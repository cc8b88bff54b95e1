"""A whole small study: its files, going on after a kill, and what is held to what it was begun with."""

from __future__ import annotations

import csv
import html
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frugalseg.cli import main
from frugalseg.errors import DataError, UserError
from frugalseg.files import read_json_object
from frugalseg.study.cell import CASES, CELL, PREDICTED_FOR
from frugalseg.study.design import make_design
from frugalseg.study.estimate import UNTRAINED, StepCost
from frugalseg.study.length import Length, steps_of
from frugalseg.study.run import plan, settle, study
from tests.study.micro import LENGTH, OVERRIDES, micro_data, micro_design, micro_study

DIFFER = ("command", "sha256")  # the folder stands in the command, and both in the hash
DRIVER = """
import sys
from pathlib import Path
from tests.study.micro import micro_study
micro_study(*map(Path, sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return micro_data(tmp_path_factory.mktemp("data") / "phantoms")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def finished(data: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "study"
    result = micro_study(data, out, store)
    assert (result.done, result.failed) == (9, ())
    return out


def test_the_table_has_every_cell_case_and_structure(finished: Path) -> None:
    with (finished / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 * 2 * 4
    keys = [(row["method"], row["labels"], row["seed"], row["case"], row["structure"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert {(row["method"], row["labels"]) for row in rows if row["labels"] == "4"} == {("cpcseg", "4")}


def test_the_same_cases_were_labelled_for_every_method_and_budgets_nest(finished: Path) -> None:
    def labelled(name: str) -> list[str]:
        names: list[str] = json.loads((finished / "cells" / name / "run" / "split.json").read_text())["labelled"]
        return names

    for seed in (0, 1):
        assert labelled(f"cpcseg-2-{seed}") == labelled(f"sscpcseg-2-{seed}")
        assert labelled(f"cpcseg-1-{seed}") == labelled(f"cpcseg-2-{seed}")[:1]


def test_summary_and_page(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    declared = [one for one in summary["comparisons"] if one["primary"]]
    assert [(one["first"], one["second"], one["labels"]) for one in declared] == [("sscpcseg", "cpcseg", 2)]
    assert declared[0]["adjusted"] == pytest.approx(declared[0]["result"]["p"])
    page = (finished / "report.html").read_text()
    for words in ("9 of 9 runs", "ceiling: cpcseg, all 4 labels", "not a medical device", "exploratory"):
        assert words in page
    assert page.index("predicted less true") < page.index("<h3>Minutes</h3>")
    assert "different devices" not in page
    assert "### Volume, predicted less true" in (finished / "summary.md").read_text()
    assert 'src="http' not in page
    assert sorted(path.name for path in (finished / "figures").iterdir()) == [
        "cases_1_labels.png", "cases_2_labels.png", "dice_by_labels.png", "hd95_mm_by_labels.png", "paired.png",
    ]  # fmt: skip


def test_again_runs_nothing_and_scores_alone_are_enough(
    finished: Path, data: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (finished / "cells").iterdir():
        (tmp_path / "study" / "cells" / path.name).mkdir(parents=True)
        for name in (CELL, CASES):
            shutil.copy(path / name, tmp_path / "study" / "cells" / path.name)
    monkeypatch.setattr("frugalseg.study.cell._run", lambda *_: pytest.fail("a finished cell was run again"))
    result = micro_study(data, tmp_path / "study", store)
    assert result.done == 9
    assert (tmp_path / "study" / "cells.csv").read_bytes() == (finished / "cells.csv").read_bytes()


def test_killed_in_the_middle_it_ends_with_the_same_table(
    finished: Path, data: Path, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    process = subprocess.Popen([sys.executable, "-c", DRIVER, data, out, store], stderr=subprocess.DEVNULL)
    begun = time.monotonic()
    while not (out / "cells" / "cpcseg-1-0" / "run" / "run.json").exists():  # the second cell is under way
        assert time.monotonic() - begun < 120
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (out / "cells" / "sscpcseg-1-0" / CELL).exists()
    assert not (out / "cells" / "cpcseg-2-1").exists()
    micro_study(data, out, store)
    assert (out / "cells.csv").read_bytes() == (finished / "cells.csv").read_bytes()


def test_a_failed_cell_says_why_stops_no_other_and_is_tried_again(
    data: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from frugalseg.jobs import train as training

    original = training.train

    def fails(*arguments: object, **named: object) -> object:
        if named["method"] == "cpcseg":
            raise RuntimeError("no such luck")
        return original(*arguments, **named)  # type: ignore[arg-type]

    design = micro_design((0,))
    design = replace(design, cells=design.cells[:2])
    with monkeypatch.context() as patched:
        patched.setattr("frugalseg.jobs.train.train", fails)
        result = micro_study(data, tmp_path / "study", store, design)
    assert result.done == 1
    ((name, error),) = result.failed
    assert name == "cpcseg-1-0"
    assert error.startswith("RuntimeError: no such luck (test_run.py:")
    assert "no such luck" in (tmp_path / "study" / "report.html").read_text()
    assert micro_study(data, tmp_path / "study", store, design).failed == ()


def test_other_data_or_settings_are_not_taken_for_the_same_study(
    finished: Path, data: Path, store: Path, tmp_path: Path
) -> None:
    design = micro_design()
    with pytest.raises(UserError, match=r"was begun with overrides .*; repeat its command"):
        study(data, finished, design, LENGTH, [*OVERRIDES, "training.learning_rate=0.1"], store)
    with pytest.raises(UserError, match=r"was begun with asked \{'steps': 3, 'minutes': None\}, now it is"):
        study(data, finished, design, Length(steps=4), OVERRIDES, store)
    out = tmp_path / "study"
    (out / "cells" / "sscpcseg-1-0").mkdir(parents=True)
    for name in (CELL, CASES):
        shutil.copy(finished / "cells" / "sscpcseg-1-0" / name, out / "cells" / "sscpcseg-1-0")
    single = replace(design, cells=design.cells[:1])
    with pytest.raises(DataError, match=r"sscpcseg-1-0: was made with other settings, data or version"):
        study(data, out, single, LENGTH, [*OVERRIDES, "training.learning_rate=0.1"], store)
    (out / "cells" / "sscpcseg-1-0" / CASES).write_text("case\n")
    shutil.rmtree(tmp_path / "study2", ignore_errors=True)
    shutil.copytree(out / "cells", tmp_path / "study2" / "cells")
    with pytest.raises(DataError, match=r"cases.csv is not as it was written"):
        study(data, tmp_path / "study2", single, LENGTH, OVERRIDES, store)


def test_a_study_is_added_to_and_nothing_is_left_out(finished: Path, data: Path, store: Path) -> None:
    for gone in ({"seeds": (0,)}, {"budgets": (2,)}, {"methods": ("cpcseg",)}):
        with pytest.raises(UserError, match=r"which its command does not name now; a study can be added to"):
            settle(data, finished, replace(micro_design(), **gone), LENGTH, OVERRIDES, store, True)


def test_label_sets_that_were_added_later_are_told(data: Path, store: Path, tmp_path: Path) -> None:
    for seeds in ((0,), (0, 1)):
        design = make_design(["cpcseg"], ["1"], seeds, 4, floor=None, ceiling=False)
        study(data, tmp_path / "study", design, LENGTH, OVERRIDES, store)
        told = "1 of the label sets (1) were added after the study was begun"
        assert (told in (tmp_path / "study" / "report.html").read_text()) == (len(seeds) == 2)
    assert read_json_object(tmp_path / "study" / "study.json")["begun_with"]["seeds"] == [0]


def test_what_labels_and_channels_mean_is_part_of_what_was_run(
    finished: Path, data: Path, store: Path, tmp_path: Path
) -> None:
    other = tmp_path / "data"
    shutil.copytree(data, other)
    facts = json.loads((other / "dataset.json").read_text())
    design = replace(micro_design(), cells=micro_design().cells[:1])
    _, before = settle(other, tmp_path / "a", design, LENGTH, OVERRIDES, store, True)
    key = "modality" if "modality" in facts else "channel_names"
    first = next(iter(facts[key]))
    facts[key][first] = "something else"
    (other / "dataset.json").write_text(json.dumps(facts))
    _, after = settle(other, tmp_path / "b", design, LENGTH, OVERRIDES, store, True)
    assert before[0].key != after[0].key
    with pytest.raises(UserError, match="was begun with meaning "):
        settle(other, tmp_path / "a", design, LENGTH, OVERRIDES, store, True)


def test_predictions_of_an_image_that_was_mended_are_made_anew(
    data: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scoring fails, the image is mended, the study repeated: what was predicted before is of another image."""
    from frugalseg.jobs import evaluate as evaluation

    def refuses(*_: object) -> None:
        raise UserError("the label is not aligned", "truth")

    single = make_design(["cpcseg"], ["1"], (0,), 4, floor=None, ceiling=False)
    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "evaluate", refuses)
        ((_, error),) = study(data, tmp_path / "study", single, LENGTH, OVERRIDES, store).failed
    assert "not aligned" in error
    cell = tmp_path / "study" / "cells" / "cpcseg-1-0"
    made = {path: path.stat().st_mtime_ns for path in (cell / "predictions").glob("*.nii.gz")}
    assert made
    (cell / PREDICTED_FOR).write_text("what was asked for before the image was mended")
    assert study(data, tmp_path / "study", single, LENGTH, OVERRIDES, store).failed == ()
    assert all(path.stat().st_mtime_ns > before for path, before in made.items())


def test_registration_first_and_a_trained_method_later(data: Path, store: Path, tmp_path: Path) -> None:
    def timer(data: Path, recipe: str | Path, *_: Any) -> StepCost:
        return UNTRAINED if "registration" in str(recipe) else StepCost(0.1, 1)

    length = Length(minutes=0.05)
    first = make_design(["registration"], ["2"], (0,), 4, floor=None, ceiling=False)
    both = make_design(["registration", "cpcseg"], ["2"], (0,), 4, floor=None, ceiling=False)
    settings = [f"cpcseg:{one}" for one in OVERRIDES]
    facts, _ = settle(data, tmp_path / "study", first, length, [], store, True, timer)
    assert facts["steps"] == {"registration": 0}
    facts, _ = settle(data, tmp_path / "study", both, length, [], store, True, timer)
    assert facts["steps"] == {"registration": 0, "cpcseg": 30}
    facts, _ = settle(data, tmp_path / "other", both, Length(steps=7), settings, store, True, timer)
    assert facts["steps"] == {"registration": 0, "cpcseg": 7}


def test_where_nothing_is_trained_no_length_need_be_told(
    data: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    words = ["frugalseg", "study", str(data), "--labels", "2", "--label-seeds", "0-0", "--floor", "none"]
    words += ["--no-ceiling", "--store", str(store), "--out", str(out), "--methods"]

    def status(*more: str) -> int:
        monkeypatch.setattr("sys.argv", [*words, *more])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0)

    assert status("registration", "--plan") == 0
    assert status("registration") == 0
    assert set(read_json_object(out / "study.json")["steps"].values()) == {0}
    monkeypatch.setattr("frugalseg.study.cell._run", lambda *_: pytest.fail("a finished cell was run again"))
    capsys.readouterr()
    assert status("registration") == 0
    assert "1 runs finished, 0 failed" in capsys.readouterr().err
    for more in ([], ["--plan"]):
        assert status("registration,encdec", *more) == 2
        assert "encdec is trained: give --steps N, or --minutes M" in capsys.readouterr().err


def test_minutes_become_steps_once(data: Path, store: Path, tmp_path: Path) -> None:
    design = micro_design((0,))
    equal = steps_of(data, design, Length(minutes=0.05), OVERRIDES, store)
    assert len(set(equal.values())) == 1

    def timer(data: Path, recipe: str | Path, *_: Any) -> StepCost:  # a busy machine times what it likes
        return StepCost(0.2 if "sscpcseg" in str(recipe) else 0.1, 1)

    own = steps_of(data, design, Length(minutes=0.05, equal="time"), OVERRIDES, store, timer)
    assert own["cpcseg"] == 2 * own["sscpcseg"] == 30
    for wrong in (Length(), Length(steps=3, minutes=1.0), Length(steps=3, equal="time")):
        with pytest.raises(UserError, match=r"--steps|--equal"):
            settle(data, tmp_path / "wrong", design, wrong, OVERRIDES, store, True)
        with pytest.raises(UserError, match=r"--steps|--equal"):
            plan(data, design, wrong, OVERRIDES, store, True, timer)
    facts, tasks = settle(data, tmp_path / "study", design, Length(minutes=0.05), OVERRIDES, store, True)
    again, repeated = settle(data, tmp_path / "study", design, Length(minutes=0.05), OVERRIDES, store, True)
    assert facts["steps"] == again["steps"]
    assert [task.key for task in tasks] == [task.key for task in repeated]


def test_the_command_on_the_page_is_the_study_s(
    finished: Path, data: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(read_json_object(finished / "study.json")["command"])
    assert words[0] == "frugalseg"
    assert words[-2:] == ["--out", str(finished)]
    escaped = html.escape(shlex.join(words), quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    assert escaped in (finished / "report.html").read_text()
    out = tmp_path / "again"
    shutil.copytree(finished, out)
    before = read_json_object(out / "study.json")
    monkeypatch.setattr("frugalseg.study.cell._run", lambda *_: pytest.fail("a finished cell was run again"))
    monkeypatch.setattr("sys.argv", [*words[:-1], str(out), "--store", str(store)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (None, 0)
    assert (out / "cells.csv").read_bytes() == (finished / "cells.csv").read_bytes()
    same = {key: value for key, value in read_json_object(out / "study.json").items() if key not in DIFFER}
    assert same == {key: value for key, value in before.items() if key not in DIFFER}


def test_a_method_can_be_added_and_takes_as_many_steps(data: Path, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    alone = make_design(["cpcseg"], ["1"], (0,), 4, floor="cpcseg", ceiling=False)
    study(data, out, alone, LENGTH, OVERRIDES, store)
    before = (out / "cells" / "cpcseg-1-0" / CELL).read_bytes()
    both = make_design(["cpcseg", "sscpcseg"], ["1"], (0,), 4, floor="cpcseg", ceiling=False)
    assert study(data, out, both, LENGTH, OVERRIDES, store).done == 2
    assert (out / "cells" / "cpcseg-1-0" / CELL).read_bytes() == before
    facts = read_json_object(out / "study.json")
    assert facts["steps"] == {"cpcseg": 3, "sscpcseg": 3}
    assert facts["methods"] == ["cpcseg", "sscpcseg"]


def test_at_equal_time_an_added_method_has_its_own_steps_and_the_others_keep_theirs(
    data: Path, store: Path, tmp_path: Path
) -> None:
    # Not timed: beside other work a step of either may take longer.
    costs = {"cpcseg": StepCost(0.1, 1), "sscpcseg": StepCost(0.3, 1)}

    def timer(data: Path, recipe: str | Path, *_: Any) -> StepCost:
        return costs[str(recipe)]

    length = Length(minutes=0.05, equal="time")
    alone = make_design(["cpcseg"], ["1"], (0,), 4, floor="cpcseg", ceiling=False)
    first, _ = settle(data, tmp_path / "study", alone, length, OVERRIDES, store, True, timer)
    both = make_design(["cpcseg", "sscpcseg"], ["1"], (0,), 4, floor="cpcseg", ceiling=False)
    facts, _ = settle(data, tmp_path / "study", both, length, OVERRIDES, store, True, timer)
    assert first["steps"] == {"cpcseg": 30}
    assert facts["steps"] == {"cpcseg": 30, "sscpcseg": 10}


def test_distances_stand_beside_dice_and_are_not_tested(finished: Path) -> None:
    (one,) = [one for one in read_json_object(finished / "summary.json")["comparisons"] if one["primary"]]
    with (finished / "cells.csv").open() as file:
        rows = [
            row for row in csv.DictReader(file) if row["labels"] == "2" and row["structure"] != "any_foreground"
        ]
    means = {
        (method, seed): mean_of_means([row for row in rows if (row["method"], row["seed"]) == (method, seed)])
        for method in ("sscpcseg", "cpcseg")
        for seed in ("0", "1")
    }
    wanted = sum(means["sscpcseg", seed] - means["cpcseg", seed] for seed in ("0", "1")) / 2
    assert one["distance"]["difference"] == pytest.approx(wanted)
    assert "HD95, mm, difference" in (finished / "summary.md").read_text()


def mean_of_means(rows: list[dict[str, str]]) -> float:
    """Mean over cases of the mean over structures of HD95."""
    cases: dict[str, list[float]] = {}
    for row in rows:
        if row["hd95_mm"]:
            cases.setdefault(row["case"], []).append(float(row["hd95_mm"]))
    each = [sum(values) / len(values) for values in cases.values()]
    return sum(each) / len(each)
