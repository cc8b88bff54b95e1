"""What is chosen from the data."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalseg.data.store import StoredCase
from frugalseg.errors import UserError
from frugalseg.networks import NetworkSettings
from frugalseg.training.plan import Plan, choose_crop, choose_mirror_axes, choose_strides, make_plan, total_stride


def plan_for(shape: tuple[int, int, int], spacing: tuple[float, float, float], **changes: object) -> Plan:
    case = StoredCase("a", Path("a"), None, None, shape, spacing, (0.0,), "k")
    crop = changes.get("crop")
    assert crop is None or isinstance(crop, tuple)
    return make_plan([case], ["liver"], NetworkSettings(), crop, None, "cpu", "fp32")


def test_isotropic_data_get_the_published_strides() -> None:
    plan = plan_for((160, 192, 128), (1, 1, 1))
    assert plan.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert plan.kernels == ((3, 3, 3),) * 4
    assert plan.crop[0] * plan.crop[1] * plan.crop[2] <= 48**3
    assert all(side % 8 == 0 for side in plan.crop)


def test_coarse_and_flat_axes_are_not_halved() -> None:
    strides, kernels = choose_strides((128, 128, 16), (1.0, 1.0, 5.0), 4)
    assert strides == ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert kernels[0] == (3, 3, 1)
    assert kernels[3] == (3, 3, 3)
    flat, _ = choose_strides((64, 64, 1), (1.0, 1.0, 1.0), 4)
    assert total_stride(flat) == (8, 8, 1)
    thin, _ = choose_strides((64, 64, 8), (1.0, 1.0, 1.0), 4)
    assert total_stride(thin) == (8, 8, 2)


def test_a_crop_that_cannot_be_divided_is_refused_with_one_that_can() -> None:
    with pytest.raises(UserError, match="40 x 48 x 32"):
        plan_for((40, 48, 32), (1, 1, 1), crop=(41, 48, 32))


def test_small_volumes_keep_their_size() -> None:
    assert choose_crop((35, 50, 36), (8, 8, 8), 64**3) == (32, 48, 32)


def test_mirrors() -> None:
    assert choose_mirror_axes(None, ["Anterior", "Posterior"])[0] == (0,)
    assert choose_mirror_axes(None, ["left kidney", "spleen"])[0] == ()
    assert choose_mirror_axes(None, ["bright spot", "cleft"])[0] == (0,)
    assert choose_mirror_axes(["z", "x"], ["left"])[0] == (0, 2)


def test_round_trip_through_json() -> None:
    plan = plan_for((64, 64, 40), (1, 1, 2)).because("steps", "set", steps=7)
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.reasons["steps"] == "set"
