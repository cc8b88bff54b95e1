"""Methods are told apart in every figure: by colour for all eyes, by marker in grey."""

from __future__ import annotations

from frugalseg.config.load import recipe_names
from frugalseg.study.design import make_design
from frugalseg.study.figures import COLOURS, MARKERS, draw_scatter, styles


def test_no_two_of_many_methods_look_the_same() -> None:
    names = recipe_names()
    design = make_design(names, ["1"], (0,), 4, floor="encdec", ceiling=False)
    looks = [tuple(style.items()) for style in styles(design).values()]
    assert len(names) > len(COLOURS)
    assert len(set(looks)) == len(looks) == len(names)
    assert len({style["marker"] for style in list(styles(design).values())[: len(MARKERS)]}) == len(MARKERS)


def test_colours_stay_apart_in_grey_or_by_marker() -> None:
    """Lightness of neighbours differs, or their markers do; both hold for the palette of Okabe and Ito."""
    light = [sum(w * int(c[i : i + 2], 16) for w, i in ((0.299, 1), (0.587, 3), (0.114, 5))) for c in COLOURS]
    assert len(set(MARKERS)) == len(MARKERS) > len(COLOURS) == len(set(light))


def test_no_picture_of_cases_that_nobody_could_score() -> None:
    design = make_design(["sscpcseg"], ["3"], (0, 1), 20)
    measured = {"structure": "one", "labels": "3"}
    rows = [
        {"method": method, "seed": seed, "case": case, "dice": "0.5" if case == seed else "", **measured}
        for method in ("sscpcseg", "encdec")
        for seed in ("0", "1")
        for case in ("0", "1")
    ]
    assert draw_scatter(rows, design, 3) is None
    assert draw_scatter([row | {"dice": "0.5"} for row in rows], design, 3) is not None
