"""Batches: the same with any number of workers, and a resumed loader gives the tail, bit for bit."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data._utils.pin_memory import pin_memory

from frugalseg.data.augment import STRONG
from frugalseg.data.manifest import read_manifest
from frugalseg.data.patches import Sample, Samples, SamplingSettings
from frugalseg.data.prepare import prepare
from frugalseg.data.preprocess import Preparation
from frugalseg.data.store import StoredCase
from frugalseg.objectives import Batch
from frugalseg.training.loader import batches, to_device
from tests.data.datasets import write_data_set

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[StoredCase]:
    manifest = read_manifest(write_data_set(tmp_path_factory.mktemp("data")))
    names = {case.name for case in manifest.labelled}
    return prepare(manifest, manifest.training, names, tmp_path_factory.mktemp("s"), Preparation(), 1)


def doubled(label: NDArray[np.uint8], spacing: tuple[float, float, float]) -> dict[str, NDArray[Any]]:
    return {"doubled": (label * 2).astype(np.float32)}


def samples(cases: list[StoredCase], seed: int = 3, **sampling: Any) -> Samples:
    chosen = SamplingSettings.model_validate({"labelled": 2, "unlabelled": 1, **sampling})
    return Samples(cases, 3, (8, 8, 8), 1, 2, chosen, STRONG, (0,), seed, {"task": doubled})


def content(batch: Batch) -> dict[str, Any]:
    tensors = {name: getattr(batch, name) for name in ("image", "target", "weight", "inside", "keys", "cases")}
    return {**tensors, **batch.extra, "segmented": torch.tensor(batch.segmented)}


def equal(one: Batch, two: Batch) -> bool:
    first, second = content(one), content(two)
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


def test_workers_do_not_matter_and_a_resumed_loader_gives_the_tail(cases: list[StoredCase]) -> None:
    alone = list(batches(samples(cases), 0, 5, 0, CPU))
    assert len(alone) == 5
    shared = list(batches(samples(cases), 0, 5, 2, CPU))
    tail = list(batches(samples(cases), 3, 5, 2, CPU))
    assert len(shared) == 5
    assert all(equal(one, two) for one, two in zip(alone, shared))
    assert len(tail) == 2
    assert all(equal(one, two) for one, two in zip(alone[3:], tail))
    assert not any(equal(alone[0], other) for other in alone[1:])
    assert not equal(alone[0], next(iter(batches(samples(cases, seed=4), 0, 1, 0, CPU))))


def test_a_batch_is_its_samples_in_order(cases: list[StoredCase]) -> None:
    source = samples(cases)
    batch = next(iter(batches(source, 2, 3, 0, CPU)))
    for place, number in enumerate(range(6, 9)):
        sample = source[number]
        assert np.array_equal(batch.image[place].numpy(), sample.image)
        assert np.array_equal(batch.target[place].numpy(), sample.target)
        assert np.array_equal(batch.weight[place].numpy(), sample.weight)
        assert np.array_equal(batch.extra["task.doubled"][place].numpy(), sample.target * 2.0)
        assert (int(batch.keys[place]), int(batch.cases[place])) == (sample.key, sample.case)
    assert batch.image.shape == (3, 1, 8, 8, 8)
    assert batch.cases[:2].max() < 3 <= batch.cases[2]  # labelled ones first
    assert not batch.weight[2].any()


def test_unlabelled_samples_need_no_logits_where_they_stand_last(cases: list[StoredCase]) -> None:
    assert next(iter(batches(samples(cases), 0, 1, 0, CPU))).segmented == 2
    assert next(iter(batches(samples(cases, mix="published"), 0, 1, 0, CPU))).segmented == 3


def test_a_stuck_worker_does_not_keep_the_run_from_ending(
    cases: list[StoredCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Samples.__getitem__

    def stuck(self: Samples, number: int) -> Sample:
        if number >= 3 * self.per_step:
            time.sleep(1000)
        return original(self, number)

    monkeypatch.setattr(Samples, "__getitem__", stuck)
    others = multiprocessing.active_children()
    source = batches(samples(cases), 0, 100, 1, CPU)
    next(source)
    assert len(multiprocessing.active_children()) == len(others) + 1
    source.close()
    assert multiprocessing.active_children() == others


def test_no_steps_left_gives_no_batch(cases: list[StoredCase]) -> None:
    assert list(batches(samples(cases), 4, 4, 0, CPU)) == []


def test_the_global_generators_are_left_alone(cases: list[StoredCase]) -> None:
    before, numpys = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    list(batches(samples(cases), 0, 2, 0, CPU))
    assert torch.equal(torch.get_rng_state(), before)
    assert repr(np.random.get_state()) == numpys  # noqa: NPY002


def test_on_the_cpu_a_batch_is_not_copied(cases: list[StoredCase]) -> None:
    batch = next(iter(batches(samples(cases), 0, 1, 0, CPU)))
    assert to_device(batch, CPU) is batch


def test_another_device_gets_every_tensor_but_the_case_numbers(cases: list[StoredCase]) -> None:
    batch = next(iter(batches(samples(cases), 0, 1, 0, CPU)))
    moved = to_device(batch, torch.device("meta"))
    devices = {name: tensor.device.type for name, tensor in content(moved).items() if name != "segmented"}
    assert devices.pop("cases") == "cpu"  # read by the host, in error messages
    assert set(devices.values()) == {"meta"}
    assert "task.doubled" in devices
    assert moved.segmented == batch.segmented


def test_batches_are_pinned_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader pins what has `pin_memory`; a dataclass without it is handed on as it is, and copies wait."""
    pinned: list[int] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(id(tensor))
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    one = torch.zeros(1, 1, 2, 2, 2)
    batch = Batch(
        one, one.byte(), one.clone(), torch.zeros(1), torch.zeros(1), 1, {"a.b": one.clone()}, weak=one + 1
    )
    found = pin_memory(batch)
    assert isinstance(found, Batch)
    held = (batch.image, batch.target, batch.weight, batch.keys, batch.extra["a.b"], batch.weak)
    assert pinned == [id(tensor) for tensor in held]
    assert found.image is not batch.image
    assert found.cases is batch.cases
    assert found.guess is None
