"""Curves: the numbers of metrics.csv, its running mean against a plain loop, and logs that a kill cut short."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalseg.report import curves
from frugalseg.report.curves import draw_curves, read_columns, running_mean


@pytest.fixture(autouse=True)
def nothing_drawn_before() -> Iterator[None]:
    curves._drawn.cache_clear()
    yield
    curves._drawn.cache_clear()


def write(folder: Path, text: str) -> Path:
    path = folder / "metrics.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_and_gaps(tmp_path: Path) -> None:
    columns = read_columns(write(tmp_path, 'step,loss,"dice.left, part"\n1,0.5,\n2,,inf\n'))
    assert list(columns) == ["step", "loss", "dice.left, part"]
    np.testing.assert_array_equal(columns["step"], [1, 2])
    np.testing.assert_array_equal(columns["loss"], [0.5, np.nan])
    np.testing.assert_array_equal(columns["dice.left, part"], [np.nan, np.inf])


@pytest.mark.parametrize("torn", ["2", "2,", "2,0.1", "2,0.1,1e", "2,0.1,-", "\0\0\0\0"])
def test_a_row_that_a_kill_cut_short_is_left_out(tmp_path: Path, torn: str) -> None:
    columns = read_columns(write(tmp_path, f"step,loss,dice.a\n1,0.5,0.25\n{torn}"))
    assert {name: values.tolist() for name, values in columns.items()} == {
        "step": [1],
        "loss": [0.5],
        "dice.a": [0.25],
    }


@pytest.mark.parametrize("text", ["", "step,loss\n", "step,loss\n1", "step,loss\n1,x\n"])
def test_a_log_without_a_row_has_no_curves(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    assert read_columns(path) == {}
    assert draw_curves(path) == []


@given(
    st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(math.nan), st.just(math.inf)), max_size=60), st.integers(1, 30)
)
@settings(max_examples=60, deadline=None)
def test_running_mean_is_that_of_a_plain_loop(values: list[float], width: int) -> None:
    found = running_mean(np.array(values, np.float64), width)
    assert len(found) == len(values)
    for place in range(len(values)):
        last = [v for v in values[max(0, place + 1 - width) : place + 1] if math.isfinite(v)]
        if last:
            assert abs(found[place] - sum(last) / len(last)) < 1e-8
        else:
            assert math.isnan(found[place])


def test_plots_are_those_that_there_are_columns_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[str]] = []

    def draw(columns: dict[str, object], names: list[str], width: int) -> str:
        drawn.append(names)
        return f"picture {len(drawn)}"

    monkeypatch.setattr(curves, "_draw", draw)
    header = "step,learning_rate,segmentation.dice,segmentation.ce,cpc.info_nce,cpc.accuracy,cpc.chance,"
    header += "cpc.gradient_ratio,dice.a,dice.b,grad_norm"
    found = draw_curves(write(tmp_path, header + "\n" + ",".join(["1"] * 11) + "\n"))
    assert drawn == [
        ["segmentation.dice", "segmentation.ce", "cpc.info_nce"],
        ["dice.a", "dice.b"],
        ["cpc.accuracy", "cpc.chance"],
        ["cpc.gradient_ratio"],
        ["learning_rate"],
    ]
    assert [picture for _, picture in found] == [f"picture {n}" for n in range(1, 6)]
    assert [title for title, _ in found][1] == "Dice on training crops"
    drawn.clear()
    assert len(draw_curves(write(tmp_path, "step,learning_rate\n1,0.1\n"))) == 1


def test_the_same_numbers_are_drawn_once_and_others_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []

    def draw(columns: dict[str, np.ndarray[Any, Any]], names: list[str], width: int) -> str:
        drawn.append(float(columns["dice.a"][-1]))
        return f"picture of {drawn[-1]}"

    monkeypatch.setattr(curves, "_draw", draw)
    path = write(tmp_path, "step,dice.a\n1,0.25\n")
    assert draw_curves(path) == draw_curves(path) == [("Dice on training crops", "picture of 0.25")]
    assert drawn == [0.25]
    write(tmp_path, "step,dice.a\n1,0.25\n2,0.75\n")
    assert draw_curves(path) == [("Dice on training crops", "picture of 0.75")]


WIDE = [(-0.0099, -0.0011), (-0.012, -0.0005), (-1e-12, 3e-9), (12345.0, -98765.0), (0.5, 0.5001), (0.01, 0.0113)]


@pytest.mark.parametrize("values", WIDE)
@pytest.mark.parametrize("last", [1910, 9600, 96500, 240000, 965000])
def test_every_number_at_the_axes_lies_in_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: tuple[float, float], last: int
) -> None:
    figures: list[Any] = []

    def kept(figure: Any) -> str:
        figures.append(figure)
        return "data:"

    monkeypatch.setattr(curves, "data_uri", kept)
    draw_curves(write(tmp_path, f"step,some.loss\n1,{values[0]}\n{last},{values[1]}\n"))
    (figure,) = figures
    (panel,) = figure.axes
    box = panel.get_tightbbox()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    shown = [tick.label1.get_window_extent() for tick in panel.xaxis.get_major_ticks()]
    assert len(shown) > 3
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(shown)), "numbers run into each other"


def test_a_long_run_is_thinned_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    sizes: list[int] = []
    original = Axes.plot

    def plot(self: Axes, *args: object, **kwargs: object) -> object:
        sizes.append(len(args[0]))  # type: ignore[arg-type]
        return original(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "plot", plot)
    text = "step,learning_rate\n" + "".join(f"{n},{1 / n if n % 7 else ''}\n" for n in range(1, 5001))
    ((_, picture),) = draw_curves(write(tmp_path, text))
    assert sizes == [1000, 1000]
    kind, data = picture.split(",", 1)
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data)[:8] == b"\x89PNG\r\n\x1a\n"


def test_losses_of_every_task_and_looks_have_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[list[str], int]] = []

    def note(columns: object, names: list[str], width: int = 25) -> str:
        drawn.append((names, width))
        return "data:"

    monkeypatch.setattr(curves, "_draw", note)
    names = [
        "segmentation.dice",
        "dice.box",
        "vae.mse",
        "vae.kl",
        "vae.gradient_ratio",
        "cpc.accuracy",
        "cpc.chance",
    ]
    (tmp_path / "metrics.csv").write_text(",".join(["step", *names]) + "\n" + ",".join("1" * 8) + "\n")
    titles = [title for title, _ in curves.draw_curves(tmp_path / "metrics.csv")]
    assert titles[0] == "Losses"
    assert drawn[0][0] == ["segmentation.dice", "vae.mse", "vae.kl"]
    (tmp_path / "validation.csv").write_text("step,dice,dice.box\n5,0.5,0.5\n10,0.6,0.6\n")
    assert [title for title, _ in curves.draw_looks(tmp_path / "validation.csv")] == [
        "Dice on the validation cases"
    ]
    assert drawn[-1] == (["dice", "dice.box"], 1)  # few points: no running mean
