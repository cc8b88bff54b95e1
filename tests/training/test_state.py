"""Checkpoints: exact, checked, and never lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from frugalseg.errors import DataError
from frugalseg.training.state import load_optimiser, previous, read_checkpoint, save_checkpoint


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    return network, torch.optim.AdamW(network.parameters(), lr=0.01)


def train_step(network: nn.Module, optimiser: torch.optim.Optimizer, number: int) -> None:
    optimiser.zero_grad()
    network(torch.full((1, 3), float(number))).square().sum().backward()
    optimiser.step()


def save(folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
    save_checkpoint(folder, network, frozenset({"0.weight", "0.bias"}), optimiser, step, {"what": "toy"}, {})


def test_going_on_is_bit_identical(tmp_path: Path) -> None:
    network, optimiser = make()
    for number in range(3):
        train_step(network, optimiser, number)
    save(tmp_path / "last", network, optimiser, 3)
    other, fresh = make()
    state = read_checkpoint(tmp_path / "last")
    assert state is not None
    assert state.step == 3
    other.load_state_dict(state.model)
    fresh.load_state_dict(state.optimiser)
    for number in range(3, 6):
        train_step(network, optimiser, number)
        train_step(other, fresh, number)
    for one, two in zip(network.parameters(), other.parameters()):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json", "model.json"])
def test_a_damaged_file_is_noticed_and_the_one_before_is_used(tmp_path: Path, name: str) -> None:
    network, optimiser = make()
    train_step(network, optimiser, 1)
    save(tmp_path / "last", network, optimiser, 1)
    train_step(network, optimiser, 2)
    save(tmp_path / "last", network, optimiser, 2)
    path = tmp_path / "last" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    state = read_checkpoint(tmp_path / "last")
    assert state is not None
    assert state.step == 1
    assert "last" in state.facts["fallback"]


def test_killed_between_the_two_renames(tmp_path: Path) -> None:
    network, optimiser = make()
    train_step(network, optimiser, 1)
    save(tmp_path / "last", network, optimiser, 1)
    (tmp_path / "last").rename(previous(tmp_path / "last"))
    state = read_checkpoint(tmp_path / "last")
    assert state is not None
    assert state.step == 1


def test_none_and_all_damaged(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "last") is None
    network, optimiser = make()
    train_step(network, optimiser, 1)
    save(tmp_path / "last", network, optimiser, 1)
    (tmp_path / "last" / "state.json").write_text("{")
    with pytest.raises(DataError, match="no intact checkpoint"):
        read_checkpoint(tmp_path / "last")


def test_the_optimisers_tensors_come_back_in_the_order_in_memory_of_their_weights(tmp_path: Path) -> None:
    def make_convolution() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = nn.Conv3d(8, 8, 3)
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # missing in torch's stubs
        return network, torch.optim.AdamW(network.parameters())

    network, optimiser = make_convolution()
    network(torch.ones(1, 8, 4, 4, 4)).square().sum().backward()
    optimiser.step()
    save_checkpoint(tmp_path / "last", network, frozenset(network.state_dict()), optimiser, 1, {}, {})
    state = read_checkpoint(tmp_path / "last")
    assert state is not None
    other, fresh = make_convolution()
    load_optimiser(fresh, state.optimiser)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        for name, value in optimiser.state[one].items():
            assert torch.equal(value, fresh.state[two][name])
            assert value.stride() == fresh.state[two][name].stride(), name
