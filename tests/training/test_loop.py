"""The loop on a tiny network: what it logs, when it saves, and that it stops at a number that is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import pytest
import torch

from frugalseg.errors import TrainingError
from frugalseg.networks import NetworkSettings, build_network
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import Batch, CpcSettings, SegmentationLoss, SegmentationSettings, Shapes
from frugalseg.training.average import WeightAverage
from frugalseg.training.launch import make_fabric
from frugalseg.training.loop import Loop
from frugalseg.training.optimiser import make_optimiser
from frugalseg.training.settings import TrainingSettings
from frugalseg.training.stop import StopRequest
from frugalseg.training.total import Objectives
from frugalseg.training.warm_up import StepTimes, warm_up

CROP = (16, 16, 32)
CASES = ("anna", "bert", "carl")


def make_loop(precision: Literal["fp32", "bf16"] = "fp32", with_cpc: bool = True, steps: int = 3) -> Loop:
    torch.manual_seed(0)
    settings = CpcSettings(patch=(8, 8, 8), blocks=1)
    task = settings.build(Shapes(1, CROP, PUBLISHED_STRIDES, (8, 16, 32, 64), 8, 1, 2))
    tasks = {"cpc": task} if with_cpc else {}
    network = build_network(NetworkSettings(), 1, 2, PUBLISHED_STRIDES, [(3, 3, 3)] * 4, tasks, 8)
    training = TrainingSettings(steps=steps, checkpoint_seconds=1e9)
    fabric = make_fabric("cpu", precision)
    wrapped, optimiser = fabric.setup(network, make_optimiser(training, network))
    return Loop(
        fabric=fabric,
        network=wrapped,
        encoder=network.encoder,
        objectives=Objectives(SegmentationLoss(SegmentationSettings(), 1, 2), tasks, {"cpc": 0.1}),
        optimiser=optimiser,
        settings=training,
        steps=steps,
        structures=("box",),
        case_names=CASES,
        log=None,
        save=lambda step: None,
    )


def make_batches(count: int = 3, spoilt: int | None = None) -> Iterator[Batch]:
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        image = torch.randn(2, 1, *CROP, generator=generator)
        target = (image > 0.5).to(torch.uint8)
        if number == spoilt:
            image[1, 0, 3, 3, 3] = math.nan
        weight = torch.ones_like(target)
        weight[1] = 0  # the second sample is unlabelled
        keys, cases = torch.arange(2) + 2 * number, torch.tensor([0, 2])
        yield Batch(image, target, weight, keys, cases, 1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("with_cpc", [True, False])
def test_a_few_steps(precision: Literal["fp32", "bf16"], with_cpc: bool) -> None:
    loop = make_loop(precision, with_cpc)
    loop.network.train()
    for number, batch in enumerate(make_batches()):
        values = loop.step(number, batch)
        assert set(values) <= set(loop.columns())
        missing = set(loop.columns()) - set(values)
        assert missing == set(), missing
        assert all(math.isfinite(value) for value in values.values())
    assert all(parameter.dtype == torch.float32 for parameter in loop.network.parameters())


def test_the_mean_takes_in_the_weights_after_the_step() -> None:
    loop = make_loop()
    names = list(loop.network.state_dict())
    loop.average = WeightAverage(loop.network, names, decay=0.99)
    before = {name: value.clone() for name, value in loop.network.state_dict().items()}
    loop.network.train()
    loop.step(0, next(make_batches()))
    after = loop.network.state_dict()
    assert not all(torch.equal(before[name], after[name]) for name in names)
    for name in names:
        expected = torch.lerp(before[name], after[name], 1 - 2 / 11)
        torch.testing.assert_close(loop.average.weights[name], expected)


def test_bf16_steps_are_near_those_of_float32() -> None:
    values = [
        [loop.step(n, b) for n, b in enumerate(make_batches())] for loop in (make_loop("fp32"), make_loop("bf16"))
    ]
    for exact, near in zip(*values, strict=True):
        for name in ("segmentation.dice", "segmentation.cross_entropy", "cpc.info_nce"):
            assert near[name] == pytest.approx(exact[name], rel=0.05), name
        assert near["gradient_norm"] == pytest.approx(exact["gradient_norm"], rel=0.15)


def test_a_loss_that_is_no_number_ends_with_step_and_cases_and_no_checkpoint() -> None:
    saved: list[int] = []
    loop = make_loop()
    loop.save = saved.append
    before = [parameter.clone() for parameter in loop.network.parameters()]
    with pytest.raises(TrainingError, match=r"at step 1 \(cases anna, carl\)"):
        loop.run(make_batches(spoilt=0), 0, StopRequest())
    assert saved == []
    for now, then in zip(loop.network.parameters(), before, strict=True):
        assert torch.equal(now, then)


def test_the_last_step_is_saved_and_a_request_to_stop_is_heard() -> None:
    saved: list[int] = []
    loop = make_loop()
    loop.save = saved.append
    assert loop.run(make_batches(), 0, StopRequest()) == 3
    assert saved == [3]
    stop = StopRequest()
    again = make_loop()
    again.save = saved.append

    def asked() -> Iterator[Batch]:
        for batch in make_batches():
            stop.signal = 15  # arrives during the first step
            yield batch

    assert again.run(asked(), 0, stop) == 1
    assert saved == [3, 1]
    # Asked before the first step: nothing is done that would have to be saved.
    assert again.run(make_batches(), 1, stop) == 1
    assert saved == [3, 1]


def test_validation_comes_before_the_checkpoint_and_training_goes_on_in_training_mode() -> None:
    order: list[str] = []
    loop = make_loop()
    loop.save = lambda step: order.append(f"save {step}")

    def validate(step: int) -> bool:
        loop.network.eval()
        order.append(f"look {step}")
        return True

    loop.validate = validate
    loop.run(make_batches(), 0, StopRequest())
    assert order == ["look 3", "save 3"]
    assert loop.network.training


def test_warm_up_measures_seconds() -> None:
    found = warm_up(make_loop(steps=8), iter(make_batches(3)), 2)
    assert 0 < found.computing < 60
    assert 0 <= found.making < 60


def test_loader_processes_make_samples_while_a_step_is_taken() -> None:
    """Timed without them, a run on a GPU would have as many steps as if nobody helped, and end far too early."""
    slow = StepTimes(making=0.32, computing=0.05)
    assert slow.seconds(0, shared=False) == pytest.approx(0.37)
    assert slow.seconds(8, shared=False) == pytest.approx(0.05)  # hidden behind the step
    assert slow.seconds(2, shared=False) == pytest.approx(0.16)  # the step waits for samples
    assert slow.seconds(8, shared=True) == pytest.approx(0.09)  # its processors are taken from it
    fast = StepTimes(making=0.01, computing=0.05)
    assert fast.seconds(8, shared=False) == pytest.approx(0.05)
