"""Which files make a case: by suffix, as a 4D file, or by name; whatever is not clear is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from frugalseg.errors import DataError, UserError
from frugalseg.inference.inputs import PredictionInput, find_inputs, read_input
from tests.data.datasets import write_data_set, write_nifti

TWO = ("T1", "FLAIR")
SMALL = np.zeros((2, 3, 4), np.float32)


def write(folder: Path, *names: str) -> None:
    for name in names:
        write_nifti(folder / name, SMALL)


def found(paths: list[Path], channels: tuple[str, ...] = TWO) -> dict[str, list[str]]:
    return {item.name: [file.name for file in item.files] for item in find_inputs(paths, {}, channels)}


def test_channels_by_suffix_in_the_models_order(tmp_path: Path) -> None:
    write(tmp_path, "b_0001.nii.gz", "b_0000.nii.gz", "a_0000.nii", "a_0001.nii.gz", "whole.nii.gz")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".tmp-c_0000.nii.gz").write_bytes(b"left over")
    assert found([tmp_path]) == {
        "a": ["a_0000.nii", "a_0001.nii.gz"],
        "b": ["b_0000.nii.gz", "b_0001.nii.gz"],
        "whole": ["whole.nii.gz"],
    }


def test_a_number_that_is_no_channel_belongs_to_the_name(tmp_path: Path) -> None:
    write(tmp_path, "h_0000.nii.gz", "h_0001.nii.gz", "h_001.nii.gz", "0000.nii.gz")
    assert found([tmp_path], ("MRI",)) == {
        "0000": ["0000.nii.gz"],
        "h_0000": ["h_0000.nii.gz"],
        "h_0001": ["h_0001.nii.gz"],
        "h_001": ["h_001.nii.gz"],
    }


def test_cases_with_four_digits_keep_their_names(tmp_path: Path) -> None:
    """scan_0000 is not channel 0 of a case `scan` where there is a scan_0002, too: labels are found by name."""
    write(tmp_path, *(f"scan_{number:04d}.nii.gz" for number in range(3)), "a_0000.nii.gz", "a_0001.nii.gz")
    assert found([tmp_path]) == {
        "a": ["a_0000.nii.gz", "a_0001.nii.gz"],
        **{f"scan_{number:04d}": [f"scan_{number:04d}.nii.gz"] for number in range(3)},
    }
    assert found([tmp_path / "a_0000.nii.gz"], ("MRI",)) == {"a": ["a_0000.nii.gz"]}


def test_names_with_dots_and_underscores(tmp_path: Path) -> None:
    write(tmp_path, "sub-1.v2_T1.b_0000.nii.gz", "sub-1.v2_T1.b_0001.nii.gz", "x.gz.nii")
    assert list(found([tmp_path])) == ["sub-1.v2_T1.b", "x.gz"]


def test_a_missing_channel_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz")
    with pytest.raises(DataError, match=r"channel T1 \(b_0000\) is missing"):
        find_inputs([tmp_path], {}, TWO)


@pytest.mark.parametrize(
    "names",
    [("a.nii", "a.nii.gz"), ("a_0000.nii", "a_0000.nii.gz", "a_0001.nii"), ("a.nii", "a_0000.nii", "a_0001.nii")],
)
def test_two_files_for_one_place_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    write(tmp_path, *names)
    with pytest.raises(DataError, match="is case 'a', and so is a"):
        find_inputs([tmp_path], {}, TWO)


def test_a_case_twice_in_different_folders_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "one", "a.nii.gz")
    write(tmp_path / "two", "a.nii.gz")
    with pytest.raises(DataError, match=r"case 'a' was already found at .*one"):
        find_inputs([tmp_path / "one", tmp_path / "two"], {}, TWO)


def test_a_data_set_gives_its_test_list(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "d", labelled=2, unlabelled=1, test=2)
    assert found([folder]) == {"case_03": ["case_03.nii.gz"], "case_04": ["case_04.nii.gz"]}
    with pytest.raises(DataError, match="no test cases"):
        find_inputs([write_data_set(tmp_path / "e", test=0)], {}, TWO)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for path, message in (("none", "does not exist"), ("a.png", "is no image"), ("empty", "holds no image")):
        with pytest.raises(DataError, match=message):
            find_inputs([tmp_path / path], {}, TWO)
    with pytest.raises(UserError, match="nothing to predict"):
        find_inputs([], {}, TWO)


def test_channels_by_name(tmp_path: Path) -> None:
    write(tmp_path / "patient.7", "x.nii.gz", "y.z.nii.gz")
    x, y = tmp_path / "patient.7" / "x.nii.gz", tmp_path / "patient.7" / "y.z.nii.gz"
    assert find_inputs([], {"FLAIR": y, "T1": x}, TWO) == [PredictionInput("patient.7", (x, y))]
    assert find_inputs([], {"FLAIR": y, "T1": x}, TWO, "me")[0].name == "me"
    assert find_inputs([], {"MRI": y}, ("MRI",))[0].name == "y.z"
    wrong: list[tuple[dict[str, Path], str]] = [
        ({"T1": x}, "channel FLAIR is missing; needed: T1, FLAIR"),
        ({"T1": x, "FLAR": y}, "no channel 'FLAR'. Did you mean 'FLAIR'"),
        ({"T1": x, "FLAIR": tmp_path / "none.nii"}, "does not exist"),
    ]
    for named, message in wrong:
        with pytest.raises(UserError) as caught:
            find_inputs([], named, TWO)
        assert message in str(caught.value)
    with pytest.raises(UserError, match="not both"):
        find_inputs([x], {"T1": x}, TWO)
    with pytest.raises(UserError, match="--case"):
        find_inputs([x], {}, TWO, "me")


def test_a_missing_channel_is_zero_where_the_model_was_trained_so(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a_0001.nii.gz", SMALL + 3)
    (item,) = find_inputs([tmp_path], {}, TWO, may_miss=True)
    assert item == PredictionInput("a", (tmp_path / "a_0001.nii.gz",), (0,))
    assert find_inputs([], {"FLAIR": item.files[0]}, TWO, "a", may_miss=True) == [item]
    _, image = read_input(item, TWO)
    assert np.array_equal(image, [SMALL, SMALL + 3])


def test_a_4d_file_reads_as_its_channels_do(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    write_nifti(tmp_path / "a.nii.gz", image, affine)
    for channel in range(2):
        write_nifti(tmp_path / f"b_000{channel}.nii.gz", image[..., channel], affine)
    (grid, whole), (other, joined) = (read_input(item, TWO) for item in find_inputs([tmp_path], {}, TWO))
    assert np.array_equal(whole, image.transpose(3, 0, 1, 2))
    assert np.array_equal(joined, whole)
    assert grid.difference(other) == 0


def test_files_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    shifted = np.eye(4)
    shifted[2, 3] = 0.5
    write_nifti(tmp_path / "a.nii.gz", SMALL)
    write_nifti(tmp_path / "large.nii.gz", np.zeros((2, 3, 5), np.float32))
    write_nifti(tmp_path / "away.nii.gz", SMALL, shifted)
    write_nifti(tmp_path / "4d.nii.gz", np.zeros((2, 3, 4, 2), np.float32))
    wrong = [
        (("a", "large"), r"large\.nii\.gz: has shape \(2, 3, 5\), a\.nii\.gz has \(2, 3, 4\)"),
        (("a", "away"), r"away\.nii\.gz: lies 0\.5 mm away from a\.nii\.gz"),
        (("4d", "4d"), "one file a channel"),
        (("a",), r"has 1 channels, the model needs 2: T1, FLAIR"),
    ]
    for names, message in wrong:
        item = PredictionInput("x", tuple(tmp_path / f"{name}.nii.gz" for name in names))
        with pytest.raises(DataError, match=message):
            read_input(item, TWO)


def test_files_that_have_all_channels_are_cases_whatever_their_numbers(tmp_path: Path) -> None:
    for number in (0, 1):
        write_nifti(tmp_path / f"case_{number:04d}.nii.gz", np.zeros((4, 4, 4, 2), np.float32))
    assert found([tmp_path]) == {f"case_{n:04d}": [f"case_{n:04d}.nii.gz"] for n in (0, 1)}
    assert found([tmp_path / "case_0001.nii.gz"]) == {"case_0001": ["case_0001.nii.gz"]}
