"""Keyed randomness: fair, independent of chunks, different between samples."""

from __future__ import annotations

import math

import pytest
import torch

from frugalseg.networks import keyed
from frugalseg.networks.keyed import keyed_choice, keyed_dropout, keyed_normal, keyed_words, subkeys


def test_words_are_fair_and_uncorrelated() -> None:
    words = keyed_words(torch.arange(64), 4096)
    bits = torch.stack([(words >> shift) & 1 for shift in range(32)]).double()
    assert (bits.mean(dim=(1, 2)) - 0.5).abs().max() < 0.01
    rows = words.double()
    correlation = torch.corrcoef(rows)
    correlation.fill_diagonal_(0)
    assert correlation.abs().max() < 0.08
    shifted = torch.corrcoef(torch.stack([rows[:, :-1].flatten(), rows[:, 1:].flatten()]))[0, 1]
    assert abs(float(shifted)) < 0.01
    assert len(words.unique()) > 0.999 * words.numel()


def test_dropout_keeps_the_share_and_the_mean() -> None:
    x = torch.ones(4, 8, 17, 5, 3)
    out = keyed_dropout(x, torch.tensor([1, 2, 3, 4]), 0.2)
    assert abs(float((out == 0).float().mean()) - 0.2) < 0.02
    assert abs(float(out.mean()) - 1) < 0.02
    assert not torch.equal(out[0], out[1])


def test_dropout_does_not_depend_on_the_chunk() -> None:
    x = torch.randn(6, 2, 5, 5, 5)
    keys = subkeys(torch.tensor([7, 8]), 3).flatten()
    whole = keyed_dropout(x, keys, 0.3)
    parts = torch.cat([keyed_dropout(x[i : i + 2], keys[i : i + 2], 0.3) for i in (0, 2, 4)])
    assert torch.equal(whole, parts)


def test_choice_is_without_repetition_and_fair() -> None:
    chosen = keyed_choice(torch.arange(2000), 12, 5)
    assert all(len(set(row.tolist())) == 5 for row in chosen)
    counts = torch.bincount(chosen.flatten(), minlength=12).double() / 2000
    assert (counts - 5 / 12).abs().max() < 0.05


def test_normal_numbers_have_the_normal_distribution() -> None:
    numbers = keyed_normal(torch.arange(512), 1024).double()
    count = numbers.numel()
    # Bounds are 5 standard errors of each moment (0, 1, 0, 3), and of the share below each bound.
    for power, wanted, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((numbers**power).mean()) - wanted) < 5 * math.sqrt(variance / count), power
    for bound in (-3.0, -1.5, -0.5, 0.0, 0.5, 1.5, 3.0):
        wanted_share = 0.5 * (1 + math.erf(bound / math.sqrt(2)))
        share = float((numbers < bound).double().mean())
        assert abs(share - wanted_share) < 5 * math.sqrt(wanted_share * (1 - wanted_share) / count), bound
    assert 4 < float(numbers.abs().max()) < 6.8


def test_normal_numbers_are_not_correlated() -> None:
    numbers = keyed_normal(torch.arange(64), 4096).double()
    between = torch.corrcoef(numbers)
    between.fill_diagonal_(0)
    assert between.abs().max() < 0.08
    for lag in (1, 2, 3):
        pairs = torch.stack([numbers[:, :-lag].flatten(), numbers[:, lag:].flatten()])
        assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.01, lag
        assert abs(float(torch.corrcoef(pairs**2)[0, 1])) < 0.01, lag


@pytest.mark.parametrize("count", [1, 2, 7, 128])
def test_normal_numbers_do_not_depend_on_batch_order_chunk_or_count(count: int) -> None:
    keys = torch.tensor([7, 2**31 - 1, 0, 12345, 8])
    whole = keyed_normal(keys, count)
    assert whole.shape == (5, count)
    assert whole.dtype == torch.float32
    order = torch.tensor([3, 0, 4, 2, 1])
    assert torch.equal(keyed_normal(keys[order], count), whole[order])
    assert torch.equal(torch.cat([keyed_normal(keys[:2], count), keyed_normal(keys[2:], count)]), whole)
    assert torch.equal(keyed_normal(keys, count + 3)[:, :count], whole)


def test_no_word_makes_an_infinite_number(monkeypatch: pytest.MonkeyPatch) -> None:
    extremes = torch.tensor([[-(2**31), 0, 2**31 - 1, 0, 0, -(2**31)]], dtype=torch.int32)
    monkeypatch.setattr(keyed, "keyed_words", lambda keys, count: extremes)
    numbers = keyed_normal(torch.tensor([0]), 6)
    assert numbers.isfinite().all()
    assert 6.7 < float(numbers.abs().max()) < 6.8


def test_normal_numbers_of_the_words_worked_out_by_hand() -> None:
    words = keyed_words(torch.tensor([5]) ^ 0x1B873593, 2)[0].tolist()
    first, second = ((word + 2**31 + 0.5) / 2**32 for word in words)
    radius = math.sqrt(-2 * math.log(first))
    wanted = torch.tensor([[radius * math.cos(2 * math.pi * second), radius * math.sin(2 * math.pi * second)]])
    torch.testing.assert_close(keyed_normal(torch.tensor([5]), 2), wanted)
