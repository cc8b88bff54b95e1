"""The page stands alone, shows cases the same way whatever their files' orientation, and believes no text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frugalseg.data.scheme import LabelScheme
from frugalseg.evaluation import CaseRow, score_case, summarise
from frugalseg.geometry import Grid
from frugalseg.report import EvaluationPart, PictureCase, pictures, write_report
from frugalseg.report.agreement import draw_agreement
from frugalseg.report.curves import running_mean
from frugalseg.report.pictures import draw_case, png, slices
from tests.data.datasets import write_nifti

SCHEME = LabelScheme.from_json({"labels": {"0": "background", "1": "box"}})


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "action")]


def test_self_contained_and_escaped(tmp_path: Path) -> None:
    label = np.zeros((8, 9, 7), np.uint8)
    label[2:5, 3:7, 2:5] = 1
    for name in ("image", "truth", "guess"):
        write_nifti(tmp_path / f"{name}.nii.gz", label)
    name = "<script>alert(1)</script>"
    rows = score_case(name, {"box": label > 0}, {"box": label > 0}, Grid((8, 9, 7), np.eye(4)), 1.0)
    image, truth, guess = (tmp_path / f"{n}.nii.gz" for n in ("image", "truth", "guess"))
    picture = PictureCase(name, "best", 1.0, image, truth, guess)
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.csv").write_text("step,learning_rate,dice.box\n1,0.1,\n2,0.05,0.5\n")
    (run / "config.yaml").write_text("method: <b>x</b>\n")
    part = EvaluationPart(summarise(rows), rows, [picture], SCHEME, "labels")
    write_report(tmp_path / "report.html", run, part)
    text = (tmp_path / "report.html").read_text()
    links = Links()
    links.feed(text)
    assert len(links.found) == 3
    assert all(link.startswith("data:image/png;base64,") for link in links.found)
    assert "script" not in links.tags
    assert "&lt;b&gt;x" in text
    # The rules of empty masks stand with the scores and with the curves.
    assert text.count("Dice 0, surface Dice 0") == 2
    assert "Only in the truth or only in the prediction: 0" in text


def test_volumes_are_drawn_where_two_cases_have_a_structure(tmp_path: Path) -> None:
    label = np.zeros((8, 9, 7), np.uint8)
    label[2:5, 3:7, 2:5] = 1
    rows: list[CaseRow] = []
    for place in range(2):
        part = EvaluationPart(summarise(rows), rows, [], SCHEME, "labels") if rows else None
        if part is not None:
            write_report(tmp_path / "one.html", None, part)
        masks = {"box": label > 0}
        rows += score_case(f"c{place}", masks, {"box": label > place}, Grid((8, 9, 7), np.eye(4)), 1.0)
    write_report(tmp_path / "two.html", None, EvaluationPart(summarise(rows), rows, [], SCHEME, "labels"))
    assert "<h2>Volumes</h2>" not in (tmp_path / "one.html").read_text()
    text = (tmp_path / "two.html").read_text()
    assert text.count("data:image/png;base64,") == 1
    assert text.index("<h2>Volumes</h2>") < text.index("Bland and Altman")
    assert "-100.0 % in all" not in text  # of two cases, one missed: half
    assert "-50.0 % in all" in text
    many = {f"s{n}": label > 0 for n in range(20)}
    rows = [row for n in range(2) for row in score_case(f"c{n}", many, many, Grid((8, 9, 7), np.eye(4)), 1.0)]
    assert draw_agreement(summarise(rows), rows) is not None


def test_what_is_not_known_is_neither_scored_nor_shown(tmp_path: Path) -> None:
    """Ignored voxels are no foreground of the picture, and an unknown structure is named in its caption."""
    scheme = LabelScheme.from_json({"labels": {"0": "background", "1": "box", "2": "ball"}, "ignore": 255})
    truth, guess = np.zeros((2, 8, 9, 7), np.uint8)
    truth[2:5, 3:7, 2:5], guess[2:5, 3:7, 2:4] = 1, 1
    plain = PictureCase("c", "best", 0.8, *_files(tmp_path / "a", truth, guess))
    masked = np.where(np.indices(truth.shape)[0] > 5, 255, truth)
    guess[6:] = 1  # found where nothing is known
    hidden = PictureCase("c", "best", 0.8, *_files(tmp_path / "b", masked, guess), unknown=("ball",))
    assert draw_case(plain, scheme) == draw_case(hidden, scheme)
    guess[0] = 2
    unscored = PictureCase("c", "best", 0.8, *_files(tmp_path / "c", masked, guess), unknown=("ball",))
    shown = PictureCase("c", "best", 0.8, *_files(tmp_path / "c", masked, guess))
    assert draw_case(unscored, scheme) != draw_case(shown, scheme)
    rows = score_case("c", {"box": truth > 0}, {"box": truth > 0}, Grid((8, 9, 7), np.eye(4)), 1.0)
    write_report(tmp_path / "r.html", None, EvaluationPart(summarise(rows), rows, [hidden], scheme, "labels"))
    assert (
        "best case: c, Dice 0.800 (not annotated, so neither scored nor shown: ball)"
        in (tmp_path / "r.html").read_text()
    )


def _files(folder: Path, truth: NDArray[np.uint8], guess: NDArray[np.uint8]) -> tuple[Path, Path, Path]:
    image = np.indices(truth.shape).sum(axis=0).astype(np.float32)
    for name, array in (("image", image), ("truth", truth), ("guess", guess)):
        write_nifti(folder / f"{name}.nii.gz", array)
    return folder / "image.nii.gz", folder / "truth.nii.gz", folder / "guess.nii.gz"


def test_a_bare_run_gives_a_page(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_report(tmp_path / "report.html", tmp_path / "run", None)
    assert "not a medical device" in (tmp_path / "report.html").read_text()


def test_every_orientation_looks_the_same() -> None:
    generator = np.random.default_rng(0)
    image = generator.normal(size=(6, 7, 8)).astype(np.float32)
    label = (image > 1).astype(np.int32)
    plain = slices(Grid((6, 7, 8), np.diag([1.0, 1.0, 2.0, 1.0])), image, label, label)
    turned = [np.ascontiguousarray(a[::-1].transpose(2, 0, 1)) for a in (image, label, label)]
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 2, -1, 1, 1
    affine[0, 3] = 5
    for one, two in zip(plain, slices(Grid((8, 6, 7), affine), *turned), strict=True):  # type: ignore[arg-type]
        assert np.array_equal(one.image, two.image)
        assert one.aspect == two.aspect
    axial = plain[2]
    assert axial.image.shape == (7, 6)
    middle = round(float(np.argwhere(label)[:, 2].mean()))
    assert axial.image[0, 0] == image[0, -1, middle]  # top left: left and front
    assert [cut.aspect for cut in plain] == [2.0, 2.0, 1.0]


def test_running_mean_by_hand() -> None:
    values = np.array([1.0, np.nan, 3.0, 5.0])
    assert running_mean(values, 2).tolist() == [1.0, 1.0, 3.0, 4.0]


def test_many_structures_have_a_legend_that_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it lies in the picture, and what is not named is counted; names are no mathematics."""
    names = {"0": "background", **{str(number): rf"left _$\frac{{$ {number}" for number in range(1, 61)}}
    scheme = LabelScheme.from_json({"labels": names})
    label = np.zeros((8, 9, 7), np.uint8)
    label[2:5, 3:7, 2:5] = 60
    for name in ("image", "truth", "guess"):
        write_nifti(tmp_path / f"{name}.nii.gz", label)
    drawn: list[Any] = []

    def kept(figure: Any) -> str:
        drawn.append(figure)
        return "data:"

    monkeypatch.setattr(pictures, "data_uri", kept)
    image, truth, guess = (tmp_path / f"{name}.nii.gz" for name in ("image", "truth", "guess"))
    draw_case(PictureCase("a", "best", 1.0, image, truth, guess), scheme)
    (figure,) = drawn
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    assert "and 38 more" in [text.get_text() for text in legend.get_texts()]
    assert any(panel.collections for panel in figure.axes), "the sixtieth structure is outlined"


def test_a_picture_is_the_one_that_savefig_writes(tmp_path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    def drawn() -> Any:
        figure = Figure(figsize=(5, 3), dpi=90, layout="constrained")
        for panel, high in zip(figure.subplots(1, 2), (1, 100_000), strict=True):
            panel.plot([0, high], label="a line")
            panel.set(title="a title", ylabel="a name")
        figure.legend(loc="outside lower center")
        return figure

    (tmp_path / "ours.png").write_bytes(png(drawn()))
    drawn().savefig(tmp_path / "theirs.png")
    ours, theirs = (imread(tmp_path / f"{name}.png") for name in ("ours", "theirs"))
    assert ours.shape == (270, 450, 4)
    assert len(np.unique(ours)) > 10
    np.testing.assert_array_equal(ours, theirs)
