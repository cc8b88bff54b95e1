"""What is chosen from the data."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from frugalseg.data.preprocess import Preparation, Window
from frugalseg.data.store import StoredCase
from frugalseg.errors import UserError
from frugalseg.networks import NetworkSettings
from frugalseg.training.plan import (
    CPU_CROP_VOXELS,
    Plan,
    choose_crop,
    choose_device,
    choose_mirror_axes,
    choose_precision,
    choose_strides,
    gpu_there,
    make_plan,
    total_stride,
)


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
    for thickness in (0.01, 1.0, 5.0):  # of a single slice: says nothing about the others
        flat, kernels = choose_strides((64, 64, 1), (1.0, 1.0, thickness), 4)
        assert total_stride(flat) == (8, 8, 1)
        assert set(kernels) == {(3, 3, 1)}
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
    sided = (
        "LeftKidney leftkidney kidneyL lung_r LKidney kidney_sx Niere_links rechte_Niere linker_Ventrikel "
        "rein_gauche riñón_derecho riñón_izq RIGHT_ARM"
    )
    for name in sided.split():
        assert choose_mirror_axes(None, ["spleen", name])[0] == (), name
    assert choose_mirror_axes(
        None, ["bright spot", "cleft", "Liver", "CSF", "WMHyperintensity", "L5", "dexterity"]
    )[0] == (0,)
    assert choose_mirror_axes(["z", "x"], ["left"])[0] == (0, 2)


def test_round_trip_through_json() -> None:
    plan = plan_for((64, 64, 40), (1, 1, 2)).because("steps", "set", steps=7)
    assert Plan.from_json(plan.to_json()) == plan
    window = Window(low=-100, high=250.5, mean=40, deviation=30)
    plan = replace(plan, preparation=Preparation(spacing=(1, 1, 2.5), windows=(window, None), zero_missing=True))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert plan.reasons["steps"] == "set"


@given(st.tuples(*[st.integers(1, 300)] * 3), st.tuples(*[st.floats(0.3, 8)] * 3))
# A side of 15 becomes 16, is halved once more, and lets another axis catch up whose crop was no multiple of that.
@example((15, 260, 64), (3.2943530821595948, 3.769060313820174, 4.473079956621181))
@example((15, 82, 189), (0.6387801585754898, 1.5165320796311903, 1.8304663413092426))
@example((140, 15, 81), (0.8641651651261959, 0.7285716794563804, 3.540018092157019))
@settings(max_examples=200, deadline=None)
def test_a_crop_that_is_chosen_can_be_divided_and_fits(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    plan = plan_for(shape, spacing)
    stride = total_stride(plan.strides)
    assert not any(side % s for side, s in zip(plan.crop, stride))
    assert all(side <= size + s / 2 for side, size, s in zip(plan.crop, shape, stride))
    smallest = stride[0] * stride[1] * stride[2]
    assert plan.crop[0] * plan.crop[1] * plan.crop[2] <= max(CPU_CROP_VOXELS, smallest)
    assert all(side // s >= 4 or s == 1 for side, s in zip(plan.crop, stride))  # no map below 4 voxels
    assert plan.strides[0] == (1, 1, 1)
    assert len(plan.strides) == len(plan.kernels) == len(NetworkSettings().blocks)
    assert choose_strides(plan.crop, spacing, len(plan.strides)) == (plan.strides, plan.kernels)


def test_the_median_case_is_planned_for() -> None:
    shapes = [(16, 32, 64), (24, 40, 64), (320, 48, 8)]
    cases = [
        StoredCase(str(n), Path("a"), None, None, shape, (1.0, 1.0, 1.0), (0.0,), "k")
        for n, shape in enumerate(shapes)
    ]
    plan = make_plan(cases, ["liver"], NetworkSettings(), None, None, "cpu", "fp32")
    assert "24 x 40 x 64" in plan.reasons["crop"]
    assert plan.crop[:2] == (24, 40)


def test_what_is_set_is_kept() -> None:
    case = StoredCase("a", Path("a"), None, None, (64, 64, 64), (1.0, 1.0, 1.0), (0.0,), "k")
    plan = make_plan([case], ["left"], NetworkSettings(width=16), (16, 24, 32), ["z"], "cpu", "bf16")
    assert (plan.crop, plan.width, plan.mirror_axes) == ((16, 24, 32), 16, (2,))
    assert (plan.device, plan.precision) == ("cpu", "bf16")
    assert all(plan.reasons[name] == "set" for name in ("crop", "width", "mirror_axes", "device", "precision"))


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32"), ({}, "fp32"),
     ({"avx512_bf16": False, "amx_bf16": False}, "fp32")],
)  # fmt: skip
def test_bf16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, Any], wanted: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_precision("auto", "cpu")[0] == wanted
    assert choose_precision("fp32", "cpu") == ("fp32", "set")
    assert choose_precision("bf16", "cpu") == ("bf16", "set")


@pytest.mark.parametrize("has", [True, False])
def test_bf16_where_the_gpu_computes_with_it(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    # An emulated bf16 is slower than fp32 and does not count.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has
    )
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": not has})
    assert choose_precision("auto", "cuda")[0] == ("bf16" if has else "fp32")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto")[0] == "cpu"
    assert choose_device("cpu") == ("cpu", "set")
    with pytest.raises(UserError, match=r"training\.device: no GPU can be used here; choose cpu or auto"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert choose_device("auto") == ("cuda", "a GPU")
    assert choose_device("cuda") == ("cuda", "set")
    assert choose_device("cpu") == ("cpu", "set")


def test_a_gpu_is_looked_for_without_starting_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch is told so by us, and not only where Fabric, which tells it too, was imported before."""
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1")
    assert gpu_there()


@pytest.mark.parametrize(("minutes", "width"), [(0.0, 8), (12.0, 8), (19.9, 8), (20.0, 16), (30.0, 16)])
def test_a_long_training_has_a_wider_network_on_a_cpu(minutes: float, width: int) -> None:
    case = StoredCase("a", Path("a"), None, None, (64, 64, 64), (1.0, 1.0, 1.0), (0.0,), "k")
    plan = make_plan([case], ["liver"], NetworkSettings(), None, None, "cpu", "fp32", None, minutes)
    assert plan.width == width
    assert ("for 20 minutes or more" in plan.reasons["width"]) == (width == 16)
    assert make_plan([case], ["a"], NetworkSettings(width=8), None, None, "cpu", "fp32", None, minutes).width == 8
