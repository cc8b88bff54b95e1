"""`frugalseg check` as a person calls it: pictures of all cases, mending, and what ends with status 2."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from benchmarks.broken import EXPECTED, Way, sound_data_set, try_way, ways
from typer.testing import CliRunner

from frugalseg.cli import app
from frugalseg.errors import UserError
from tests.data.datasets import contents, make_case, write_data_set, write_nifti


def test_a_picture_of_every_case_the_worst_first(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data")
    write_nifti(data / "labelsTr" / "case_02.nii.gz", np.full((10, 12, 8), 7, np.uint8))
    (data / "imagesTr" / "case_03.nii.gz").write_bytes(b"no image")
    (data / "labelsTs" / "case_05.nii.gz").write_bytes(b"never opened")
    before = contents(data)
    done = CliRunner().invoke(app, ["check", str(data), "--overlays", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert contents(data) == before
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {*(f"case_0{index}.png" for index in (0, 1, 2, 4, 5)), "index.html"}
    page = (tmp_path / "out" / "index.html").read_text()
    order = re.findall(r"<h2>(\w+) ", page)
    assert order == ["case_02", "case_03", "case_00", "case_01", "case_04", "case_05"]
    assert "label values 7 (960 voxels)" in page
    again = CliRunner().invoke(app, ["check", str(data), "--overlays", str(tmp_path / "out")])
    assert isinstance(again.exception, UserError)
    inside = CliRunner().invoke(app, ["check", str(data), "--overlays", str(data / "new")])
    assert "never changed" in str(inside.exception)


def test_mending_on_the_command_line(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data")
    label = make_case(0)[1]
    label[0, 0, :5] = 7
    write_nifti(data / "labelsTr" / "case_00.nii.gz", label)
    call = ["check", str(data), "--mend", str(tmp_path / "one")]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 2
    assert "left out: case_00: labelsTr/case_00.nii.gz: label values 7 (5 voxels)" in done.stdout
    call[-1] = str(tmp_path / "two")
    done = CliRunner().invoke(app, [*call, "--remap", "7=0", "--json"])
    assert done.exit_code == 0
    value = json.loads(done.stdout)
    assert value["mended"]["case_00"]["status"] == "mended"
    assert value["before"]["can_train"] is False
    assert value["after"]["findings"] == []


@pytest.mark.parametrize(
    "option", [["--mend-limit", "1"], ["--remap", "7=0"], ["--nan-to-zero"], ["--resample-channels"]]
)
def test_how_to_mend_without_where_to_is_refused(tmp_path: Path, option: list[str]) -> None:
    done = CliRunner().invoke(app, ["check", str(write_data_set(tmp_path)), *option])
    assert isinstance(done.exception, UserError)
    assert "--mend OUT" in str(done.exception)


SOME = ("label shifted by 0.05 mm", "qform 0.04 mm off", "infinite voxels, nothing said", "a channel twice")


@pytest.mark.parametrize("way", [way for way in ways() if way.name in SOME], ids=lambda way: way.name)
def test_ways_to_break_a_data_set(tmp_path: Path, way: Way) -> None:
    """The benchmark's table in small: the fault is named, nothing else is, and its case fares as it should."""
    result = try_way(way, sound_data_set(tmp_path / "sound"), tmp_path)
    assert set(result.kinds) == {way.kind}
    assert result.outcome == way.outcome
    assert (way.kind in result.left) == (result.outcome == "unchanged")


def test_the_sound_phantom_is_sound_and_the_ways_are_many(tmp_path: Path) -> None:
    from frugalseg.data.check import check

    assert {finding.kind for finding in check(sound_data_set(tmp_path / "sound")).findings} <= EXPECTED
    names = [way.name for way in ways()]
    assert len(names) == len(set(names)) >= 20
    assert set(SOME) <= set(names)
