"""The smallest study that is a real one: phantoms of 24 voxels a side, runs of three steps."""

from __future__ import annotations

from pathlib import Path

from frugalseg.data.phantom import write_phantom
from frugalseg.study.design import Design, make_design
from frugalseg.study.length import Length
from frugalseg.study.run import StudyResult, study

OVERRIDES = (
    "crop=[16,16,16]",
    "network.width=8",
    "network.blocks=[1,1,1]",
    "training.workers=0",
    "training.precision=fp32",
    "auxiliary.cpc.patch=[8,8,8]",
)
LENGTH = Length(steps=3)


def micro_data(folder: Path) -> Path:
    """Write a data set of 4 labelled, 1 unlabelled and 2 test cases."""
    write_phantom(folder, cases=5, labelled=4, test=2, shape=(24, 24, 24), seed=3)
    return folder


def micro_design(seeds: tuple[int, ...] = (0, 1)) -> Design:
    """Two methods, two budgets, two label sets, and the ceiling."""
    return make_design(["sscpcseg"], ["1", "2"], seeds, 4, floor="cpcseg", primary=["sscpcseg:cpcseg@2"])


def micro_study(data: Path, out: Path, store: Path, design: Design | None = None) -> StudyResult:
    """Run it."""
    return study(data, out, design or micro_design(), LENGTH, OVERRIDES, store)
