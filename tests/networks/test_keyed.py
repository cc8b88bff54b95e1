"""Keyed randomness: fair, independent of chunks, different between samples."""

from __future__ import annotations

import torch

from frugalseg.networks.keyed import keyed_choice, keyed_dropout, keyed_words, subkeys


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
