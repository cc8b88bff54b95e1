"""Pictures of what lies on disk, broken or not, and the page that lists them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.image import imread
from numpy.typing import NDArray

from frugalseg.data.manifest import Case
from frugalseg.data.scheme import LabelScheme
from frugalseg.report.overlay import _legend, draw_overlay, read_overlay
from frugalseg.report.overlay_page import OverlayEntry, picture_name, write_overlay_page
from tests.data.datasets import SHAPE, make_case, write_nifti
from tests.report.test_report import Links

SCHEME = LabelScheme.from_json({"labels": {"background": 0, "box": 1}})
ORANGE, RED, MAGENTA = (0.902, 0.624, 0.0), (1.0, 0.4, 0.4), (1.0, 0.0, 1.0)


def drawn(folder: Path, image: NDArray[np.float32], label: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return the picture (rows, columns, colour) of a case of these voxels."""
    write_nifti(folder / "a.nii", image)
    if label is not None:
        write_nifti(folder / "label.nii", label)
    case = Case("a", (folder / "a.nii",), folder / "label.nii" if label is not None else None, "a")
    draw_overlay(folder / "a.png", read_overlay(case, SCHEME, "labelled"), SCHEME)
    return np.asarray(imread(folder / "a.png"))[..., :3]


def coloured(picture: NDArray[np.float32], colour: tuple[float, float, float]) -> int:
    return int((np.abs(picture - np.array(colour)).max(axis=-1) < 0.06).sum())


def test_structures_are_outlined_and_oddities_are_loud(tmp_path: Path) -> None:
    image, label = make_case(0)
    values = label.astype(np.float32)
    plain = drawn(tmp_path, image, None)
    assert coloured(plain, ORANGE) == coloured(plain, MAGENTA) == 0
    sound = drawn(tmp_path, image, values)
    assert coloured(sound, ORANGE) > 100
    assert coloured(sound, MAGENTA) == 0
    image[3:6, 4:6, 3:5] = np.nan
    assert coloured(drawn(tmp_path, image, values), MAGENTA) > 100
    strange = np.where(values > 0, np.float32(7), 0)
    picture = drawn(tmp_path, make_case(0)[0], strange)
    assert coloured(picture, ORANGE) == 0
    reddish = (picture[..., 0] > 0.55) & (picture[..., 1] < 0.45) & (picture[..., 2] < 0.45)
    assert reddish.sum() > 500


def test_a_label_that_does_not_fit_is_left_out_and_it_is_said(tmp_path: Path) -> None:
    image, label = make_case(0)
    write_nifti(tmp_path / "a.nii", image)
    write_nifti(tmp_path / "label.nii", label[..., :5])
    case = Case("a", (tmp_path / "a.nii",), tmp_path / "label.nii", "a")
    overlay = read_overlay(case, SCHEME, "labelled")
    assert overlay.label is None
    assert "another shape" in overlay.title
    (tmp_path / "label.nii").write_bytes(b"garbage")
    assert "cannot be read" in read_overlay(case, SCHEME, "labelled").title


def test_the_channel_that_was_asked_for_is_shown(tmp_path: Path) -> None:
    images = [make_case(index)[0] for index in range(3)]
    write_nifti(tmp_path / "all.nii", np.stack(images, axis=3))
    for index, image in enumerate(images):
        write_nifti(tmp_path / f"a_{index}.nii", image)
    many = Case("a", tuple(tmp_path / f"a_{index}.nii" for index in range(3)), None, "a")
    for case in (Case("a", (tmp_path / "all.nii",), None, "a"), many):
        overlay = read_overlay(case, SCHEME, "test", channel=2)
        np.testing.assert_array_equal(overlay.channel, images[2])
        assert overlay.title == "a   10 x 12 x 8 voxels of 1 x 1 x 1 mm, axes RAS, test, channel 2"


def test_names_that_matplotlib_would_take_for_mathematics(tmp_path: Path) -> None:
    scheme = LabelScheme.from_json({"labels": {"background": 0, r"_$\frac{$": 1}})
    image, label = make_case(0)
    write_nifti(tmp_path / "a.nii", image)
    write_nifti(tmp_path / "label.nii", label)
    case = Case(r"$\frac{$", (tmp_path / "a.nii",), tmp_path / "label.nii", "a")
    draw_overlay(tmp_path / "a.png", read_overlay(case, scheme, "labelled"), scheme)
    flat = Case("flat", (tmp_path / "flat.nii",), None, "flat")
    write_nifti(tmp_path / "flat.nii", np.zeros((*SHAPE[:2], 1), np.float32))
    draw_overlay(tmp_path / "flat.png", read_overlay(flat, scheme, "labelled"), scheme)


def test_the_page_needs_nothing_but_its_folder_and_believes_no_text(tmp_path: Path) -> None:
    entries = [
        OverlayEntry("<script>b</script>", "labelled", [("error", "<b>bad</b>")], [("", "b.png")]),
        OverlayEntry("a", "test"),
    ]
    write_overlay_page(tmp_path, "made: check", [("note", "all")], entries)
    text = (tmp_path / "index.html").read_text()
    links = Links()
    links.feed(text)
    assert links.found == ["b.png"]
    assert "script" not in links.tags
    assert "&lt;b&gt;bad" in text
    assert "the image cannot be read" in text


def test_picture_names_are_plain_and_differ() -> None:
    assert picture_name("case_01", ()) == "case_01.png"
    assert picture_name("../a b#?", (), "-after") == ".._a_b__-after.png"
    assert picture_name("a?", {"a_.png"}) == "a_-1.png"
    assert picture_name("A", {"a.png", "A-1.png"}) == "A-2.png"


def test_what_is_not_in_the_scheme_is_named_first_however_many_structures(tmp_path: Path) -> None:
    scheme = LabelScheme.from_json({"labels": {"0": "background", **{str(n): f"organ {n}" for n in range(1, 16)}}})
    named: list[str] = []

    class Figure:
        def legend(self, handles: list[Any], **_: Any) -> Any:
            named.extend(handle.get_label().strip() for handle in handles)
            return SimpleNamespace(get_texts=list)

    _legend(Figure(), np.full((2, 2, 2), 255, np.int32), scheme, (), 8)
    assert named[0] == "not in the scheme (8 voxels)"
    assert named[-1] == "and 5 more structures"
    assert len(named) == 12
