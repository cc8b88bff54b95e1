"""What a step holds in memory: simulated against steps with numbers, by an independent count, and by hand."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from frugalseg.config import Config, load_config
from frugalseg.data.scheme import LabelScheme
from frugalseg.jobs import build as building
from frugalseg.jobs.footprint import Footprint, footprint, patches_of, share_of, with_chunk
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import Batch, CpcSettings
from frugalseg.objectives.across import Share
from frugalseg.training.launch import make_fabric
from frugalseg.training.plan import Plan, choose_precision

SCHEME = LabelScheme.from_json({"labels": {"background": 0, "a": 1, "b": 2}})
CROP = (16, 16, 32)
NATURAL = choose_precision("auto", "cpu")[0]
"""bf16 where the processor computes with it: elsewhere its convolutions hold copies, which nothing simulates."""


def plan_of(precision: Any = "fp32") -> Plan:
    return Plan(CROP, PUBLISHED_STRIDES, ((3, 3, 3),) * 4, 8, (0,), "cpu", precision, 2)


def config_of(method: str, *settings: str) -> Config:
    small = ["auxiliary.cpc.patch=[8,8,8]"] if "cpc" in method else []
    return load_config(method, [*small, *settings])


def measured(config: Config, plan: Plan, samples: int, labelled: int) -> int:
    """Return the largest sum of the allocator's own notes over the second real step, batch and weights added."""
    torch.manual_seed(0)
    network = building.build(config, plan, 1, SCHEME)
    loop = building.make_loop(config, plan, SCHEME, network, make_fabric("cpu", plan.precision))
    loop.case_names = ("one",)
    network.train()
    target = torch.zeros(samples, SCHEME.groups, *plan.crop, dtype=torch.uint8)
    target[..., 4:9] = 1
    extra = {}
    for name, task in building.tasks_of(network).items():
        for key, array in task.target(target[0].numpy(), (1.0, 1.0, 1.0)).items():
            extra[f"{name}.{key}"] = torch.stack([torch.from_numpy(array)] * samples)
    ones, numbers = torch.ones(samples, 1, *plan.crop, dtype=torch.uint8), torch.zeros(samples, dtype=torch.int64)
    image = torch.randn(samples, 1, *plan.crop)
    batch = Batch(image, target, ones, numbers, numbers, labelled, extra, ones)
    loop.step(0, batch)
    held = [*network.parameters(), image, target, ones, ones, *extra.values()]
    base = sum(tensor.nbytes for tensor in held)
    base += sum(p.grad.nbytes for p in network.parameters() if p.grad is not None)
    states = [value for state in loop.optimiser.state.values() for value in state.values()]
    base += sum(value.nbytes for value in states if isinstance(value, torch.Tensor))
    gc.collect()  # what others left behind would be freed, and counted, below
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        loop.step(1, batch)
    live = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return base + peak


@pytest.mark.parametrize(
    ("method", "precision"), [("encdec", "fp32"), ("vaeseg", NATURAL), ("boundseg", "fp32"), ("sscpcseg", NATURAL)]
)
def test_simulated_and_measured_by_the_allocator(method: str, precision: str) -> None:
    config, plan = config_of(method), plan_of(precision)
    found = footprint(config, plan, 1, SCHEME, 4, 2)
    # So small a step is mostly weights and buffers inside operations, which the simulation does not see, and what
    # was freed that had been made before the profile began is missing. Steps of usual sizes are held to the quarter
    # by benchmarks/preflight.py (0.96 to 1.08); here it was 0.82 to 1.24.
    assert found.peak == pytest.approx(measured(config, plan, 4, 2), rel=0.35)


class Simulated(Exception):
    """A step would be simulated."""


def test_what_a_step_does_not_depend_on_is_not_simulated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    config, plan = config_of("encdec"), plan_of()
    first = footprint(config, plan, 1, SCHEME, 2, 2)

    def build(*_: Any) -> None:
        raise Simulated

    monkeypatch.setattr("frugalseg.jobs.footprint.building.build", build)
    again = config_of("encdec", "training.seed=7", "training.steps=9", "training.workers=3", "method=mine")
    assert footprint(again, replace(plan, device="cuda", steps=9, reasons={"a": "b"}), 1, SCHEME, 2, 2) is first
    fewer = LabelScheme.from_json({"labels": {"background": 0, "a": 1}})
    others: list[tuple[Config, Plan, int, LabelScheme, int, int]] = [
        (config, replace(plan, crop=(32, 16, 16)), 1, SCHEME, 2, 2),
        (config, replace(plan, precision="bf16"), 1, SCHEME, 2, 2),
        (config, plan, 2, SCHEME, 2, 2),
        (config, plan, 1, SCHEME, 2, 1),
        (config, plan, 1, fewer, 2, 2),
        (config_of("encdec", "training.average=0.9"), plan, 1, SCHEME, 2, 2),
        (config_of("encdec", "network.dropout=0.3"), plan, 1, SCHEME, 2, 2),
    ]
    for other in others:
        with pytest.raises(Simulated):
            footprint(*other)


@pytest.fixture(scope="module")
def four() -> Footprint:
    return footprint(config_of("encdec"), plan_of(), 1, SCHEME, 4, 4)


def test_what_stays_between_steps_is_four_times_the_weights(four: Footprint) -> None:
    """Weights, gradients and Adam's two moments (and a step number of 4 bytes for each tensor)."""
    network = building.build(config_of("encdec"), plan_of(), 1, SCHEME)
    tensors = list(network.parameters())
    assert four.weights == 4 * sum(tensor.numel() for tensor in tensors)
    assert four.static == 4 * four.weights + 4 * len(tensors)


def test_activations_grow_with_the_samples_in_a_straight_line(four: Footprint) -> None:
    two, six = (footprint(config_of("encdec"), plan_of(), 1, SCHEME, n, n) for n in (2, 6))
    assert six.peak - four.peak == pytest.approx(four.peak - two.peak, rel=0.01)
    assert six.static == two.static


def test_convolutions_are_counted(four: Footprint) -> None:
    """The first one by hand: one channel to eight on the whole crop, once."""
    first = [c for c in four.convolutions if c.forward and c.inputs == 1]
    assert [(c.outputs, c.batch, c.sides, c.kernel) for c in first] == [(8, 4, CROP, (3, 3, 3))]
    assert four.convolutions[first[0]] == 1


def test_smaller_chunks_hold_less_and_the_line_meets_the_simulation() -> None:
    config, plan = config_of("cpcseg"), plan_of()
    settings = config.auxiliary["cpc"]
    assert isinstance(settings, CpcSettings)
    total = 4 * patches_of(settings, plan, 1)
    peaks = [footprint(with_chunk(config, "cpc", n), plan, 1, SCHEME, 4, 4).peak for n in (total, total // 4)]
    assert peaks[1] < peaks[0]
    by_line = footprint(with_chunk(config, "cpc", total // 8), plan, 1, SCHEME, 4, 4).peak
    assert by_line <= peaks[1]


def test_samples_are_shared_like_the_loader_shares_them() -> None:
    config = config_of("encdec", "sampling.labelled=3", "sampling.unlabelled=2", "sampling.mix=fixed")
    assert share_of(config, Share(0, 1)) == (5, 3)
    assert [share_of(config, Share(rank, 2)) for rank in range(2)] == [(3, 2), (2, 1)]
