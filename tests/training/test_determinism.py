"""Deterministic arithmetic: switched on inside, put back after; samples alike whatever the number of threads."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from frugalseg.data.augment import STRONG
from frugalseg.data.manifest import read_manifest
from frugalseg.data.patches import Samples, SamplingSettings
from frugalseg.data.prepare import prepare
from frugalseg.data.preprocess import Preparation
from frugalseg.training.determinism import arithmetic
from frugalseg.training.loader import batches
from tests.data.datasets import write_data_set


def test_settings_of_the_process_are_put_back() -> None:
    threads = torch.get_num_threads()

    def fail() -> None:
        with arithmetic(True, "cpu", threads + 1):
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.get_num_threads() == threads + 1
            assert torch.backends.cudnn.deterministic
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
    assert not torch.backends.cudnn.deterministic


def test_what_has_no_deterministic_form_is_an_error_on_a_cpu_and_a_warning_on_a_gpu() -> None:
    with arithmetic(True, "cpu"):
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    with arithmetic(True, "cuda"):
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    with arithmetic(False, "cpu"):
        assert not torch.are_deterministic_algorithms_enabled()


def make_samples(folder: Path) -> Samples:
    """Samples with every augmentation switched on in each of them."""
    manifest = read_manifest(write_data_set(folder / "data", labelled=2, unlabelled=1))
    names = {case.name for case in manifest.labelled}
    cases = prepare(manifest, manifest.training, names, folder / "store", Preparation())
    chances = {name: 1.0 for name in type(STRONG).model_fields if isinstance(getattr(STRONG, name), float)}
    del chances["rotate_degrees"]
    every = STRONG.model_copy(update=chances)
    sampling = SamplingSettings(labelled=2, unlabelled=1)
    return Samples(cases, 2, (12, 12, 12), 1, 2, sampling, every, (0,), 5)


def test_samples_are_the_same_for_any_number_of_threads_and_workers(tmp_path: Path) -> None:
    samples = make_samples(tmp_path)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = [samples[number] for number in range(30)]
        torch.set_num_threads(4)
        four = [samples[number] for number in range(30)]
        for a, b in zip(one, four, strict=True):
            for field in fields(a):
                x, y = getattr(a, field.name), getattr(b, field.name)
                assert np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y, field.name
        assert len({sample.image.tobytes() for sample in one}) == 30
        for workers in (0, 2):
            for step, batch in enumerate(batches(samples, 0, 10, workers, torch.device("cpu"))):
                expected = np.stack([sample.image for sample in one[3 * step : 3 * step + 3]])
                assert np.array_equal(batch.image.numpy(), expected), (workers, step)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_worker_tells_a_damaged_store_in_one_line(workers: int, tmp_path: Path) -> None:
    from frugalseg.errors import DataError

    samples = make_samples(tmp_path)
    for case in samples.cases:
        case.image.write_bytes(b"not an array")
    with pytest.raises(DataError, match="is damaged") as caught:
        next(iter(batches(samples, 0, 2, workers, torch.device("cpu"))))
    assert "Traceback" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
