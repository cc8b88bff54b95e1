"""Memory that runs out in a step: it is taken once more with smaller chunks, and nothing else is different."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from frugalseg.objectives.cpc import ContrastivePredictiveCoding
from frugalseg.training.loop import Loop
from frugalseg.training.memory import OutOfMemory, memory_ran_out
from tests.training.test_loop import make_batches, make_loop

ALLOCATOR = (
    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes. Error code 12"
)


def cpc(loop: Loop) -> ContrastivePredictiveCoding:
    task = loop.objectives.tasks["cpc"]
    assert isinstance(task, ContrastivePredictiveCoding)
    return task


def weights(loop: Loop) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in loop.network.state_dict().items()}


class Failing:
    """Makes a module's forward pass raise an error at its nth call, and records when it did."""

    def __init__(self, module: torch.nn.Module, error: BaseException, *calls: int) -> None:
        self.count, self.calls, self.error = 0, calls, error
        self.original = module.forward
        module.forward = self

    def __call__(self, *args: Any) -> Any:
        self.count += 1
        if self.count in self.calls:
            raise self.error
        return self.original(*args)


@pytest.mark.parametrize("where", ["encoder", "predictor", "backward"])
@pytest.mark.parametrize("error", [RuntimeError(ALLOCATOR), MemoryError(), torch.OutOfMemoryError("CUDA")])
def test_the_step_is_that_of_a_run_with_the_smaller_chunk(
    where: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: two steps, of which the second runs out, against one that had the smaller chunk in the second."""
    batches = list(make_batches(3))
    disturbed, undisturbed = make_loop(), make_loop()
    told: list[str] = []
    disturbed.tell = told.append
    assert cpc(disturbed).chunk is None
    for loop in (disturbed, undisturbed):
        loop.network.train()
        loop.step(0, batches[0])
    total = 2 * cpc(undisturbed).layout.patches
    cpc(undisturbed).chunk = -(-total // 4)
    undisturbed.step(1, batches[1])
    if where == "backward":
        calls = []
        original = Loop._backward

        def backward(self: Loop, totals: Any, measure: bool) -> Any:
            calls.append(original(self, totals, measure))
            if len(calls) == 1:
                raise error  # the gradients are there by then
            return calls[-1]

        monkeypatch.setattr(Loop, "_backward", backward)
    else:
        module = disturbed.encoder if where == "encoder" else cpc(disturbed).head
        Failing(module, error, 1)
    state = torch.get_rng_state()
    disturbed.step(1, batches[1])
    assert torch.equal(torch.get_rng_state(), state)
    if where == "backward":
        monkeypatch.undo()
    assert len(told) == 1
    assert f"cpc: {-(-total // 4)} of {total} patches encoded at a time instead of {total}" in told[0]
    assert "step 2" in told[0]
    for loop in (disturbed, undisturbed):
        loop.step(2, batches[2])
    one, two = weights(disturbed), weights(undisturbed)
    assert all(torch.equal(one[name], two[name]) for name in one)
    states = [loop.optimiser.state_dict()["state"] for loop in (disturbed, undisturbed)]
    assert all(torch.equal(states[0][p][key], states[1][p][key]) for p in states[0] for key in states[0][p])
    # Against a run whose chunk never changed, only the order of sums differs.
    whole = make_loop()
    whole.network.train()
    for number, batch in enumerate(batches):
        whole.step(number, batch)
    assert cpc(whole).chunk is None
    for name, tensor in weights(whole).items():
        assert torch.allclose(tensor, one[name], atol=5e-3), name


def test_the_second_failure_ends_it_before_the_optimiser_moves() -> None:
    loop = make_loop()
    loop.network.train()
    before = weights(loop)
    Failing(loop.encoder, RuntimeError(ALLOCATOR), 1, 2)
    with pytest.raises(
        OutOfMemory, match=r"^memory: ran out in step 1 \(\[enforce fail\] DefaultCPUAllocator.*smaller crop"
    ):
        loop.step(0, next(make_batches()))
    assert all(torch.equal(before[name], tensor) for name, tensor in loop.network.state_dict().items())
    assert not loop.optimiser.state_dict()["state"]


def test_without_anything_to_make_smaller_there_is_no_second_attempt() -> None:
    loop = make_loop(with_cpc=False)
    failing = Failing(loop.encoder, MemoryError(), 1)
    with pytest.raises(OutOfMemory, match="MemoryError"):
        loop.step(0, next(make_batches()))
    assert failing.count == 1


def test_a_chunk_of_one_patch_cannot_be_smaller() -> None:
    branch = cpc(make_loop())
    sizes: list[int] = []
    while branch.spare_memory(2) is not None:
        assert branch.chunk is not None
        sizes.append(branch.chunk)
    total = 2 * branch.layout.patches
    assert sizes[0] == -(-total // 4)
    assert sizes[-1] == 1
    assert sorted(set(sizes), reverse=True) == sizes


def test_memory_that_runs_out_in_the_optimiser_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make_loop()
    taken = []

    def fails(*_: object) -> None:
        taken.append(1)
        raise RuntimeError(ALLOCATOR)

    monkeypatch.setattr(loop.optimiser, "step", fails)
    with pytest.raises(OutOfMemory):
        loop.step(0, next(make_batches()))
    assert taken == [1]


def test_the_failed_attempt_is_let_go_before_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise there would be less memory for it than for the first."""
    loop = make_loop()
    held: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []
    original = Loop._backward

    def backward(self: Loop, totals: Any, measure: bool) -> Any:
        if not held:
            held.append(weakref.ref(totals["segmentation"]))
            raise RuntimeError(ALLOCATOR)
        gc.collect()
        alive.append(held[0]() is not None)
        return original(self, totals, measure)

    monkeypatch.setattr(Loop, "_backward", backward)
    loop.step(0, next(make_batches()))
    assert alive == [False]


def test_other_errors_are_let_through() -> None:
    assert not memory_ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory_ran_out(ValueError(ALLOCATOR))
    loop = make_loop()
    Failing(loop.encoder, RuntimeError("other"), 1)
    with pytest.raises(RuntimeError, match=r"^other$"):
        loop.step(0, next(make_batches()))


def test_the_allocator_really_says_so() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory_ran_out(caught.value)
