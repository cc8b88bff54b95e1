"""Every layout through the whole job: check, prepare, train, resume, predict, evaluate, in the images' own type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalseg.data.check import check
from frugalseg.data.manifest import DataSource
from frugalseg.data.readers import read_header, read_label
from frugalseg.errors import DataError, UserError
from frugalseg.files import read_json_object
from frugalseg.inference.inputs import find_inputs
from frugalseg.jobs.evaluate import evaluate
from frugalseg.jobs.predict import predict
from frugalseg.jobs.train import train
from tests.data.layouts.sets import write_raw, write_table

SMALL = [
    "training.steps=2", "network.width=8", "crop=[8,8,8]", "training.workers=0", "sampling.unlabelled=0",
    "training.device=cpu",
]  # fmt: skip
TWO = ("T1w", "FLAIR")


def trained(data: Path | DataSource, folder: Path, **options: Any) -> Path:
    # Nothing is wrong but, in some, that a structure has no voxel: these labels are two voxels large.
    wrong = [one for one in check(data).findings if one.severity == "error"]
    assert {one.kind for one in wrong} <= {"structure-absent"}, wrong
    train(data, folder / "run", "encdec", overrides=SMALL, store=folder / "store", **options)
    return folder / "run"


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_raw(tmp_path: Path, ending: str) -> None:
    labels = {"background": 0, "all": [1, 2], "core": 2}
    data = write_raw(tmp_path / "data", ending=ending, labels=labels, regions_class_order=[1, 2])
    run = trained(data, tmp_path)
    paths = predict(run, [data], tmp_path / "out", probabilities=True)
    assert [path.name for path in paths] == [f"case_04{ending}"]
    assert (tmp_path / "out" / f"case_04_probability_core{ending}").exists()
    grid, values, _ = read_label(paths[0], (0, 1, 2))
    assert values.shape == (10, 12, 8)
    assert np.array_equal(grid.affine, read_header(data / "imagesTs" / f"case_04_0000{ending}").grid.affine)
    result = evaluate(tmp_path / "out", data, tmp_path / "scores")
    assert {row.structure for row in result.rows if not row.extra} == {"all", "core"}
    assert "data:image/png" in (tmp_path / "scores" / "report.html").read_text(encoding="utf-8")


def test_table(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    rows = ["case,image:FLAIR,image:T1w,label,role"]
    for index, (part, role) in enumerate(
        [("Tr", "train"), ("Tr", "train"), ("Tr", "train"), ("Tr", ""), ("Ts", "test")]
    ):
        name = f"case_{index:02d}"
        files = [f"images{part}/{name}_{channel:04d}.nrrd" for channel in (1, 0)]
        rows.append(f"c{index},{','.join(files)},{'' if index == 3 else f'labels{part}/{name}.nrrd'},{role}")
    table = write_table(raw, *rows)
    run = trained(table, tmp_path)
    facts = read_json_object(run / "run.json")["data"]
    assert facts["folder"] == str(table.resolve())
    assert facts["channels"] == ["FLAIR", "T1w"]
    assert train(table, run, "encdec", overrides=SMALL, store=tmp_path / "store", resume=True).steps == 2
    from_table = read_label(predict(run, [table], tmp_path / "a")[0], (0, 1))[1]
    # The raw layout has the same channels in another order: they are matched by name.
    from_raw = read_label(predict(run, [raw], tmp_path / "b")[0], (0, 1))[1]
    assert np.array_equal(from_table, from_raw)
    result = evaluate(tmp_path / "a", table, tmp_path / "scores")
    assert {row.case for row in result.rows} == {"c4"}


def test_folders_and_resume(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", test=0)
    describe = tmp_path / "d.json"
    describe.write_text(json.dumps({"labels": {"background": 0, "box": 1}, "channel_names": dict(enumerate(TWO))}))
    source = DataSource(raw / "imagesTr", raw / "labelsTr", describe)
    run = trained(source, tmp_path)
    facts = read_json_object(run / "run.json")["data"]
    assert facts["label_maps"] == str((raw / "labelsTr").resolve())
    assert facts["describe"] == str(describe.resolve())
    assert train(source, run, "encdec", overrides=SMALL, store=tmp_path / "store", resume=True).steps == 2
    (raw / "dataset.json").unlink()
    predict(run, [raw / "imagesTr"], tmp_path / "out")
    for place, said in enumerate((None, describe)):
        found = evaluate(tmp_path / "out", raw / "labelsTr", tmp_path / f"scores-{place}", describe=said).summary
        assert set(found.structures) >= {"box"}


def test_values_that_nobody_named_are_told_with_what_to_do(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", labels={"background": 0, "box": 7})
    table = write_table(raw, "image,label", "imagesTr/case_00_0000.nrrd,labelsTr/case_00.nrrd")
    label = DataSource(table, describe=tmp_path / "d.json")
    (tmp_path / "d.json").write_text(json.dumps({"labels": {"background": 0, "box": 7}}))
    with pytest.raises(
        DataError, match=r'label values 1 are not in the scheme \(0, 7\); add them to "labels" .* CSV'
    ):
        train(label, tmp_path / "run", "encdec", overrides=SMALL, store=tmp_path / "store")


def test_channels_are_matched_by_name_alone(tmp_path: Path) -> None:
    raw = write_raw(tmp_path)
    assert [f.name[-9:-5] for f in find_inputs([raw], {}, ("FLAIR", "T1w"))[0].files] == ["0001", "0000"]
    with pytest.raises(DataError, match="names the channels T1w, FLAIR, the model needs T1, FLAIR; name"):
        find_inputs([raw], {}, ("T1", "FLAIR"))


def test_two_predictions_of_a_case_are_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    for name in ("case_04.nrrd", "case_04.NRRD"):
        (tmp_path / name).write_bytes((raw / "labelsTs" / "case_04.nrrd").read_bytes())
    with pytest.raises(UserError, match="is case 'case_04', and so is"):
        evaluate(tmp_path, raw, tmp_path / "scores")


def test_a_missing_channel_is_refused_or_by_a_setting_zero(tmp_path: Path) -> None:
    data = write_raw(tmp_path / "data")
    (data / "imagesTr" / "case_01_0001.nrrd").unlink()
    (one,) = [found for found in check(data).findings if found.kind == "channel-missing"]
    assert (one.case, one.found) == ("case_01", "has no channel FLAIR")
    with pytest.raises(
        DataError, match=r"case 'case_01' has no channel FLAIR; add the file, .*missing_channels=zero"
    ):
        train(data, tmp_path / "refused", "encdec", overrides=SMALL, store=tmp_path / "store")
    assert not (tmp_path / "refused").exists()
    overrides = [*SMALL, "preprocess.missing_channels=zero"]
    train(data, tmp_path / "run", "encdec", overrides=overrides, store=tmp_path / "store")
    predict(tmp_path / "run", [data], tmp_path / "out")
