"""Sums over processes: values, gradients, order; and what a loss over two processes is."""

from __future__ import annotations

import torch
from torch import Tensor

from frugalseg.objectives.across import Share, all_rows, all_sum, sharing
from frugalseg.objectives.base import masked_mean
from tests.ddp.pool import WORLD, Pool
from tests.ddp.work import seeded


def test_a_single_process_gets_the_very_tensor_back() -> None:
    x = torch.ones(3, requires_grad=True)
    assert all_sum(x) is x
    assert all_rows(x) is x
    with sharing(Share(0, 1)):
        assert all_sum(x) is x
        assert all_rows(x) is x


def loss_of(x: Tensor, scale: Tensor) -> Tensor:
    """A function of sums that also has this process's own values beside them."""
    total = all_sum(x)
    return (total**2).sum() * scale + (total * x).sum()


def sums() -> tuple[list[float], list[float]]:
    rank = torch.distributed.get_rank()
    x = seeded(rank, 3).requires_grad_()
    with sharing(Share(rank, WORLD)):
        value = loss_of(x, torch.tensor(2.0 + rank, dtype=torch.float64))
        value.backward()
    assert x.grad is not None
    return all_sum(x).tolist(), x.grad.tolist()


def test_the_gradient_is_that_of_the_sum_of_all_processes_losses(pool: Pool) -> None:
    xs = [seeded(rank, 3).requires_grad_() for rank in range(WORLD)]
    total = xs[0] + xs[1]
    losses = [(total**2).sum() * (2.0 + rank) + (total * x).sum() for rank, x in enumerate(xs)]
    torch.stack(losses).sum().backward()
    for rank, (value, gradient) in enumerate(pool(sums)):
        assert value == xs[rank].tolist()  # outside of `sharing`
        assert xs[rank].grad is not None
        torch.testing.assert_close(torch.tensor(gradient, dtype=torch.float64), xs[rank].grad)


def rows(count: int) -> tuple[list[float], list[float]]:
    rank = torch.distributed.get_rank()
    own = torch.arange(rank, count, WORLD, dtype=torch.float64).requires_grad_()
    with sharing(Share(rank, WORLD)):
        whole = all_rows(own[:, None])
        (whole[:, 0] ** 3).sum().backward()
    assert own.grad is not None
    return whole[:, 0].tolist(), own.grad.tolist()


def test_rows_come_in_the_order_of_the_samples(pool: Pool) -> None:
    for count in (2, 5, 6):
        for rank, (values, gradient) in enumerate(pool(rows, count)):
            assert values == list(range(count))
            assert gradient == [WORLD * 3 * row**2 for row in range(rank, count, WORLD)]


def means() -> list[tuple[float, float]]:
    """Return the mean over samples and the averaged derivative of a weight, for two choices of present samples."""
    rank = torch.distributed.get_rank()
    found = []
    for present in ([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]):
        weight = torch.tensor(1.0, requires_grad=True)
        values = weight * torch.tensor([[1.0, 2.0, 3.0], [10.0, 99.0, 99.0]][rank])
        with sharing(Share(rank, WORLD)):
            mean = masked_mean(values, torch.tensor(present[rank]))
            mean.backward()
        assert weight.grad is not None
        torch.distributed.all_reduce(weight.grad)
        found.append((float(mean.detach()), float(weight.grad) / WORLD))
    return found


def test_a_mean_counts_samples_and_not_processes(pool: Pool) -> None:
    # By hand: (1 + 2 + 3 + 10) / 4 = 4; the mean of the processes' means would be (2 + 10) / 2 = 6.
    assert pool(means) == [[(4.0, 4.0), (0.0, 0.0)]] * WORLD
