"""The check of a data set: one fault at a time is planted, and the report names it, and only it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from frugalseg.data.check import CaseRow, CheckReport, Finding, StructureRow, check, render
from frugalseg.data.manifest import read_manifest
from frugalseg.errors import DataError
from tests.data.datasets import SHAPE, change, contents, make_case, write_data_set, write_nifti

LABELLED, UNLABELLED, TEST = "case_01.nii.gz", "case_03.nii.gz", "case_05.nii.gz"


def only(report: CheckReport) -> Finding:
    assert len(report.findings) == 1, report.findings
    return report.findings[0]


def test_a_sound_data_set(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, affine=np.diag([-2.0, 1.0, 0.5, 1.0]))
    before = contents(folder)
    seen: list[str] = []
    report = check(folder, seen.append)
    assert contents(folder) == before
    assert sorted(seen) == [f"case_{index:02d}" for index in range(6)]
    assert report.findings == ()
    assert report.can_train
    assert report.counts == {"labelled": 3, "unlabelled": 2, "test": 1}
    assert report.orientations == {"LAS": 6}
    assert report.spacing_range == ((2.0, 2.0), (1.0, 1.0), (0.5, 0.5))
    # Boxes of 4 x (2, 3, 4) x 4 voxels of 1 cubic millimetre.
    box = report.structures[0]
    assert (box.name, box.cases, box.voxels) == ("box", 3, 144)
    assert (box.ml, *(box.ml_range or ())) == pytest.approx((0.144, 0.032, 0.064))
    first = report.cases[0]
    assert (first.shape, first.spacing, first.orientation) == (SHAPE, (2.0, 1.0, 0.5), "LAS")
    assert (first.channels, first.structures, first.voxels) == (1, ("box",), {"box": 32})
    assert first.foreground == pytest.approx(32 / 960)
    assert [case.foreground is None for case in report.cases] == [False] * 3 + [True] * 3


def test_labels_of_test_cases_are_not_opened(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    (folder / "labelsTs" / TEST).write_bytes(b"garbage")
    assert check(folder).findings == ()
    (folder / "labelsTr" / LABELLED).write_bytes(b"garbage")
    assert only(check(folder)).file == f"labelsTr/{LABELLED}"


@pytest.mark.parametrize(
    ("part", "name", "trains"), [("Tr", LABELLED, False), ("Tr", UNLABELLED, False), ("Ts", TEST, True)]
)
@pytest.mark.parametrize("fault", ["missing", "cut short", "not finite", "channels"])
def test_a_faulty_image(tmp_path: Path, part: str, name: str, trains: bool, fault: str) -> None:
    folder = write_data_set(tmp_path)
    file = folder / f"images{part}" / name
    image = make_case(int(name[5:7]))[0]
    if fault == "missing":
        # Only a file that dataset.json names can be missing.
        change(folder, training=[*_training(folder), {"image": f"imagesTr/{UNLABELLED}"}])
        file.unlink()
    elif fault == "cut short":
        file.write_bytes(file.read_bytes()[:900])
    elif fault == "not finite":
        image[0, 0, :5] = [np.nan, np.nan, np.nan, np.inf, -np.inf]
        write_nifti(file, image)
    else:
        write_nifti(file, np.stack([image, image + 1], axis=3))
    report = check(folder)
    finding = only(report)
    assert (finding.severity, finding.case) == ("error", name.removesuffix(".nii.gz"))
    assert finding.file == f"images{part}/{name}"
    told = {
        "missing": "does not exist",
        "cut short": "cut short",
        "not finite": "5 of 960 voxels are NaN (3) or infinite (2)",
        "channels": "has 2 channels, the data set has 1 (MRI)",
    }
    assert told[fault] in finding.found
    assert finding.todo
    assert report.can_train is trains
    row = next(case for case in report.cases if case.name == finding.case)
    assert (row.shape is None) == (fault == "missing")
    # The other labels are counted all the same.
    assert sum(bool(case.voxels) for case in report.cases) == 3


def _training(folder: Path) -> list[dict[str, str]]:
    training: list[dict[str, str]] = json.loads((folder / "dataset.json").read_text())["training"]
    return training


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("missing", "does not exist"),
        ("shape", "label has shape (10, 12, 7), its image (10, 12, 8)"),
        ("shift", "5 mm apart (origin shifted by 5, 0, 0 mm)"),
        ("orientation", "orientation LAS instead of RAS"),
        ("spacing", "spacing 1 x 1 x 1.5 mm instead of 1 x 1 x 1"),
        ("value", "label values 7 (1 voxels) are not in the scheme (0, 1)"),
        ("fraction", "1 of 960 voxels are not, such as 0.3"),
        ("colour", "colours and complex numbers"),
    ],
)
def test_a_faulty_label(tmp_path: Path, fault: str, told: str) -> None:
    folder = write_data_set(tmp_path)
    file = folder / "labelsTr" / LABELLED
    label = make_case(1)[1].astype(np.float32)
    affine = np.eye(4)
    if fault == "missing":
        file.unlink()
    else:
        if fault == "shape":
            label = label[..., :7]
        elif fault == "shift":
            affine[0, 3] = 5
        elif fault == "orientation":
            affine = np.diag([-1.0, 1.0, 1.0, 1.0])
        elif fault == "spacing":
            affine[2, 2] = 1.5
        elif fault in ("value", "fraction"):
            label[0, 0, 0] = 7 if fault == "value" else 0.3
        write_nifti(file, label.astype(np.complex64) if fault == "colour" else label, affine)
    report = check(folder)
    finding = only(report)
    assert (finding.severity, finding.case, finding.file) == ("error", "case_01", f"labelsTr/{LABELLED}")
    assert told in finding.found
    assert finding.todo
    assert not report.can_train
    assert len(report.cases) == 6
    assert report.cases[2].structures == ("box",)


def test_a_shift_within_the_tolerance_is_none(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    for shift, errors in ((0.0009, 0), (0.0011, 1)):
        affine = np.eye(4)
        affine[1, 3] = shift
        write_nifti(folder / "labelsTr" / LABELLED, make_case(1)[1], affine)
        assert len(check(folder).findings) == errors


def test_geometry_and_values_of_a_label_are_both_told(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    write_nifti(folder / "labelsTr" / LABELLED, np.full(SHAPE, 9, np.uint8), np.diag([3.0, 1, 1, 1]))
    found = [finding.found for finding in check(folder).findings]
    assert len(found) == 2
    assert "18 mm apart" in found[0]
    assert "label values 9" in found[1]


def test_almost_integer_labels_are_a_note(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    label = make_case(1)[1].astype(np.float64)
    label[label > 0] += 0.0005
    write_nifti(folder / "labelsTr" / LABELLED, label)
    report = check(folder)
    assert only(report).severity == "note"
    assert "48 label voxels" in only(report).found
    assert report.cases[1].voxels == {"box": 48}
    assert report.can_train


def test_warnings_do_not_stop_training(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    write_nifti(folder / "labelsTr" / LABELLED, np.zeros(SHAPE, np.uint8))
    write_nifti(folder / "imagesTr" / UNLABELLED, np.full(SHAPE, 3, np.int16))
    report = check(folder)
    assert [finding.severity for finding in report.findings] == ["warning", "warning"]
    assert "holds no structure" in report.findings[0].found
    assert "channel 0 (MRI) is constant (3)" in report.findings[1].found
    assert report.can_train
    assert report.structures[0].cases == 2
    assert report.cases[1].structures == ()


def test_a_structure_that_no_label_has(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, labels={"0": "background", "1": "box", "2": "sphere"})
    report = check(folder)
    assert only(report).severity == "error"
    assert "'sphere' occurs in none of 3 labels" in only(report).found
    assert report.structures[1] == StructureRow("sphere", 0, 0, 0, None)
    assert not report.can_train


def test_regions_are_counted_with_all_their_values(tmp_path: Path) -> None:
    labels = {"0": "background", "1": "rim", "2": "core"}
    folder = write_data_set(tmp_path, labels=labels, regions={"whole": [1, 2], "core": [2]})
    label = make_case(0)[1]
    label[4:6, 4:6, 3:6] = 2
    write_nifti(folder / "labelsTr" / "case_00.nii.gz", label)
    report = check(folder)
    assert report.cases[0].voxels == {"whole": 32, "core": 12}
    assert [row.cases for row in report.structures] == [3, 1]
    assert report.cases[1].structures == ("whole",)


TWO = {"0": "background", "1": "box", "2": "ball"}


def test_labels_that_show_a_part_of_the_structures(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, labels=TWO, annotated_classes={"case_00": ["box"], "case_02": ["ball"]})
    ball = np.where(make_case(2)[1] > 0, 2, 0).astype(np.uint8)
    write_nifti(folder / "labelsTr" / "case_02.nii.gz", ball)
    report = check(folder)
    assert "'ball' occurs in only one of 2 labels" in only(report).found
    assert report.can_train
    assert [case.not_annotated for case in report.cases[:3]] == [("ball",), (), ("box",)]
    assert report.cases[0].voxels == {"box": 32}
    assert report.structures[0] == StructureRow("box", 2, 80, 0.08, (0.032, 0.048), not_annotated=1)
    assert (report.structures[1].cases, report.structures[1].not_annotated) == (1, 1)
    text = render(report)
    assert "box in 2 of 2 labels, not annotated in 1 more: 80 voxels" in text
    assert "2 of 3 labels show only a part of the structures (annotated_classes)" in text
    lines = [line for line in text.splitlines() if line.startswith("case")]
    assert lines[0].endswith("structures  not annotated")
    assert lines[1].endswith("box         ball")
    assert lines[2].endswith("box")
    value = report.to_json()
    assert value["cases"][0]["not_annotated"] == ["ball"]
    assert value["structures"][0]["not_annotated"] == 1


def test_voxels_of_a_structure_that_was_not_annotated_are_a_warning(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, labels=TWO, annotated_classes={"case_01": ["ball"]})
    for index in (0, 2):
        label = make_case(index)[1]
        label[3:6, 4:6, 2:4] = 2
        write_nifti(folder / "labelsTr" / f"case_{index:02d}.nii.gz", label)
    (finding,) = (found for found in check(folder).findings if found.severity == "warning")
    assert (finding.kind, finding.case) == ("not-annotated", "case_01")
    assert "48 voxels of value 1 (box) belong to no structure that annotated_classes lists" in finding.found
    # With regions a value may lie in one that was annotated and in one that was not: nothing to warn of.
    change(folder, regions={"all": [1, 2], "ball": [2]}, annotated_classes={"case_01": ["all"]})
    assert check(folder).findings == ()


def test_a_structure_that_was_annotated_nowhere_cannot_be_learnt(tmp_path: Path) -> None:
    folder = write_data_set(
        tmp_path, labels=TWO, annotated_classes={f"case_{index:02d}": ["box"] for index in range(3)}
    )
    finding = only(check(folder))
    assert finding.severity == "error"
    assert "'ball' was annotated in no label" in finding.found
    assert not check(folder).can_train


def test_ignored_voxels_are_told_by_case(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, ignore=255)
    label = make_case(1)[1]  # 48 voxels of the box, all of them in y 4 to 7 and z 2 to 5
    label[:, :3] = 255
    write_nifti(folder / "labelsTr" / LABELLED, label)
    write_nifti(folder / "labelsTr" / "case_02.nii.gz", np.full(SHAPE, 255, np.uint8))
    report = check(folder)
    assert "every voxel has the ignored value 255" in only(report).found
    assert [case.ignored for case in report.cases[:4]] == [0.0, 0.25, 1.0, None]
    assert report.cases[1].foreground == pytest.approx(48 / 720)
    assert report.cases[1].voxels == {"box": 48}
    assert report.cases[2].foreground == 0
    text = render(report)
    assert "ignored voxels in 2 of 3 labels: 25.00% to 100.00% of each" in text
    assert next(line for line in text.splitlines() if line.startswith("case ")).endswith("ignored")


def test_orientations_that_differ_are_a_note(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    turned = np.zeros((4, 4))
    turned[2, 0], turned[0, 1], turned[1, 2], turned[3, 3] = (
        1.5,
        -1.5,
        1.0,
        1.0,
    )  # SLA: 1.5 up, 1.5 right, 1 front
    write_nifti(folder / "imagesTr" / UNLABELLED, make_case(3)[0], turned)
    report = check(folder)
    assert only(report).severity == "note"
    assert "5 RAS, 1 SLA" in only(report).found
    assert report.spacing_range == ((1.0, 1.5), (1.0, 1.0), (1.0, 1.5))


def test_without_a_label_nothing_can_be_trained(tmp_path: Path) -> None:
    report = check(write_data_set(tmp_path, labelled=0))
    assert not report.can_train
    assert "no training case has a label" in only(report).found


def test_a_copied_test_image_is_an_error_as_it_is_for_training(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    (folder / "imagesTr" / "new.nii.gz").write_bytes((folder / "imagesTs" / TEST).read_bytes())
    report = check(folder)
    assert only(report).file == "imagesTr/new.nii.gz"
    assert only(report).found == "holds the same voxels as the test image case_05"
    assert not report.can_train


def test_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dataset\.json"):
        check(tmp_path)


def test_json_holds_everything_and_comes_back_equal(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    (folder / "imagesTr" / UNLABELLED).write_bytes(b"")
    value = check(folder).to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert value["format_version"] == 2
    assert value["can_train"] is False
    assert value["counts"] == {"labelled": 3, "unlabelled": 2, "test": 1}
    assert value["cases"][0]["shape"] == list(SHAPE)
    assert value["cases"][3]["shape"] is None
    assert value["findings"][0]["case"] == "case_03"


def report_of(cases: int, findings: tuple[Finding, ...] = (), name: str = "case") -> CheckReport:
    facts = ((9, 9, 9), (1.0, 1.0, 1.0), "RAS", 1, 0.01, {"box": 7}, {"box": 0.007})
    rows = tuple(CaseRow(f"{name}_{index:03d}", "labelled", *facts) for index in range(cases))
    structures = (StructureRow("box", cases, 7 * cases, 0.007 * cases, (0.007, 0.007)),)
    return CheckReport("made", "folder", ("MRI",), structures, rows, findings)


def test_a_long_table_is_cut_but_shows_every_case_with_a_finding() -> None:
    whole = render(report_of(30))
    assert all(f"case_{index:03d}" in whole for index in range(30))
    assert "more without findings" not in whole
    finding = Finding("warning", "case_027", "imagesTr/case_027.nii.gz", "is odd", "look at it")
    text = render(report_of(31, (finding,)))
    rows = [line for line in text.splitlines() if line.startswith("case_")]
    assert [row.split()[0] for row in rows] == [f"case_{index:03d}" for index in [*range(12), 27]]
    assert "and 18 more without findings" in text


def test_findings_come_errors_first_one_line_each_and_columns_align(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    write_nifti(folder / "imagesTr" / "case_00.nii.gz", np.ones(SHAPE, np.float32))
    (folder / "labelsTr" / "case_02.nii.gz").unlink()
    text = render(check(folder))
    lines = text.splitlines()
    assert lines[0].startswith("tiny: 3 labelled, 2 unlabelled, 1 test cases")
    told = [line.strip().split(":")[0] for line in lines if line.startswith(("  error:", "  warning:"))]
    assert told == ["error", "warning"]
    assert "  error: labelsTr/case_02.nii.gz: does not exist; " in text
    assert lines[-1] == "training cannot start: 1 error to mend first"
    table = [line for line in lines if line.startswith("case")]
    assert len({line.index(role) for line, role in zip(table[1:], ["lab"] * 3 + ["unlab"] * 2 + ["test"])}) == 1
    assert render(check(write_data_set(tmp_path / "sound"))).splitlines()[-1] == "training can start"


def test_names_cannot_steer_the_terminal() -> None:
    text = render(report_of(2, (Finding("note", "", "a\x1b[2J", "b\nc", "d"),), name="\x1b[31mcase"))
    assert "\x1b" not in text
    assert "note: a?[2J: b?c; d" in text


def test_what_cannot_train_cannot_be_prepared(tmp_path: Path) -> None:
    """The check and `prepare` agree on what is an error."""
    from frugalseg.data.prepare import prepare
    from frugalseg.data.preprocess import Preparation

    folder = write_data_set(tmp_path / "data")
    image = make_case(0)[0]
    image[0, 0, 0] = np.nan
    write_nifti(folder / "imagesTr" / "case_00.nii.gz", image)
    assert not check(folder).can_train
    manifest = read_manifest(folder)
    with pytest.raises(DataError, match=r"case_00\.nii\.gz: 1 of 960 voxels"):
        prepare(manifest, manifest.training, (), tmp_path / "store", Preparation())
