"""On a GPU a step gives what it gives on the processor, needs what was reckoned, and tells when memory runs out."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from frugalseg.config import load_config
from frugalseg.config.load import recipe_names
from frugalseg.data.scheme import LabelScheme
from frugalseg.jobs import build as building
from frugalseg.jobs import needs
from frugalseg.jobs.footprint import footprint
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import Batch
from frugalseg.training.launch import make_fabric
from frugalseg.training.loader import to_device
from frugalseg.training.loop import Loop
from frugalseg.training.memory import OutOfMemory
from frugalseg.training.plan import Plan, Precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SCHEME = LabelScheme.from_json({"labels": {"background": 0, "a": 1, "b": 2}})
TAUGHT = ["mean-teacher", "copy-paste", "atlas-teacher"]
PLAIN = [name for name in recipe_names() if "-" not in name and load_config(name).atlas is None]
METHODS = [*PLAIN, *TAUGHT]
SMALL_PATCHES = ("auxiliary.cpc.patch=[8,8,8]", "auxiliary.cpc.blocks=1")
Triple = tuple[int, int, int]


def make_loop(
    method: str, device: str, crop: Triple, width: int, precision: Precision, overrides: Sequence[str] = ()
) -> Loop:
    torch.manual_seed(0)
    config = load_config(method, list(overrides))
    plan = Plan(crop, PUBLISHED_STRIDES, ((3, 3, 3),) * 4, width, (0,), device, precision, 1000)
    network = building.build(config, plan, 1, SCHEME)
    loop = building.make_loop(config, plan, SCHEME, network, make_fabric(device, precision))
    loop.case_names = ("random",)
    network.train()
    return loop


def make_batch(loop: Loop, crop: Triple, samples: int, labelled: int) -> Batch:
    """Return random voxels, the same on every device."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(samples, 1, *crop, generator=generator)
    target = torch.randint(0, 3, (samples, SCHEME.groups, *crop), generator=generator, dtype=torch.uint8)
    extra: dict[str, Tensor] = {}
    for name, task in loop.objectives.tasks.items():
        for key, array in task.target(target[0].numpy(), (1.0, 1.0, 1.0)).items():
            extra[f"{name}.{key}"] = torch.stack([torch.from_numpy(array)] * samples)
    ones = torch.ones(samples, 1, *crop, dtype=torch.uint8)
    keys, cases = torch.arange(samples), torch.zeros(samples, dtype=torch.int64)
    weak = guess = None
    if loop.semisup is not None:
        loop.semisup.assume_most()  # ask all teachers
        weak = image[labelled:] + 0.1
        sides = (samples - labelled, SCHEME.outputs, *crop)
        guess = torch.randint(0, 256, sides, generator=generator, dtype=torch.uint8)
    whole = Batch(image, target, ones, keys, cases, labelled, extra, ones, weak=weak, guess=guess)
    return to_device(whole, loop.fabric.device)


def small(method: str) -> Sequence[str]:
    return SMALL_PATCHES if "cpc" in method else ()


@pytest.mark.parametrize("method", METHODS)
def test_losses_and_gradients_are_those_of_the_processor(method: str) -> None:
    """In double precision, where no order of sums matters: dropout, negatives and noise must be the same draws."""
    crop = (16, 16, 32)
    found: list[tuple[dict[str, float], dict[str, Tensor]]] = []
    for device in ("cpu", "cuda"):
        loop = make_loop(method, device, crop, 8, "fp32", small(method))
        network: Any = loop.network.module.double()
        batch = make_batch(loop, crop, 3, 2)
        weak = None if batch.weak is None else batch.weak.double()
        batch = replace(batch, image=batch.image.double(), weak=weak)
        if loop.semisup is not None:
            assert loop.teacher is not None
            loop.teacher.network.double()
            batch = loop.semisup.prepare(batch, loop.teacher, 500, 1000)
        terms = loop.objectives(network(batch.image, batch.keys, batch.segmented), batch)
        torch.stack(list(terms.totals.values())).sum().backward()
        gradients = {name: p.grad.cpu() for name, p in network.named_parameters() if p.grad is not None}
        found.append(({name: float(value.detach()) for name, value in terms.scalars.items()}, gradients))
    (losses, gradients), (other_losses, other_gradients) = found
    assert other_losses == pytest.approx(losses, rel=1e-8)
    assert gradients.keys() == other_gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    assert largest > 0
    for name, gradient in gradients.items():
        assert float((gradient - other_gradients[name]).abs().max()) < 1e-6 * largest, name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_steps_log_what_they_log_on_the_processor(method: str, precision: Precision) -> None:
    """Convolutions in fp32 may use TF32 there, which has bf16's exponent and ten bits."""
    crop, values = (16, 16, 32), []
    for device in ("cpu", "cuda"):
        loop = make_loop(method, device, crop, 8, precision, small(method))
        batch = make_batch(loop, crop, 3, 2)
        values.append([loop.step(number, batch) for number in range(2)])
        assert all(parameter.dtype == torch.float32 for parameter in loop.network.parameters())
    for here, there in zip(*values, strict=True):
        assert list(here) == list(there)
        assert all(math.isfinite(value) for value in there.values())
        for name in here:
            if "dice." in name or "accuracy" in name:  # of hard decisions, which rounding may tip over
                continue
            assert there[name] == pytest.approx(here[name], rel=0.1, abs=0.02), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["encdec", "boundseg", "ssvaeseg", "sscpcseg"])
def test_a_step_needs_the_graphics_memory_that_was_reckoned(method: str, precision: Precision) -> None:
    crop, samples, labelled = (64, 64, 64), 2, 1
    gc.collect()
    torch.cuda.empty_cache()
    others = torch.cuda.memory_allocated()  # what other tests have left, a failed one's tensors for instance
    loop = make_loop(method, "cuda", crop, 32, precision)
    config = load_config(method)
    plan = Plan(crop, PUBLISHED_STRIDES, ((3, 3, 3),) * 4, 32, (0,), "cuda", precision, 1000)
    expected = needs.training(footprint(config, plan, 1, SCHEME, samples, labelled), "cuda", 0).gpu
    batch = make_batch(loop, crop, samples, labelled)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for number in range(2):
        loop.step(number, batch)
    tensors = torch.cuda.max_memory_allocated() - others
    held = torch.cuda.max_memory_reserved() - others
    print(f"{method} {precision}: expected {expected >> 20} MiB, tensors {tensors >> 20}, reserved {held >> 20}")
    assert tensors < expected
    assert expected < 1.6 * held


def test_memory_that_runs_out_ends_in_a_line() -> None:
    loop = make_loop("encdec", "cuda", (64, 64, 64), 32, "fp32")
    batch = make_batch(loop, (64, 64, 64), 2, 2)
    torch.cuda.empty_cache()
    share = 200 * 2**20 / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        with pytest.raises(OutOfMemory, match="start a new run that needs less"):
            loop.step(0, batch)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert math.isfinite(loop.step(0, batch)["segmentation.dice"])  # nothing was left half done
