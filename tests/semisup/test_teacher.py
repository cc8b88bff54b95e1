"""The teacher is the student with the mean weights in evaluation mode, whatever the student does meanwhile."""

from __future__ import annotations

import copy

import torch

from frugalseg.networks import MultiTaskNetwork, NetworkSettings, build_network
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.semisup.teacher import Teacher


def student() -> MultiTaskNetwork:
    torch.manual_seed(0)
    settings = NetworkSettings(dropout=0.5)
    network = build_network(settings, 1, 2, PUBLISHED_STRIDES, [(3, 3, 3)] * 4, {}, 8)
    return network.train()


def mean_of(network: MultiTaskNetwork) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: value.detach() + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in network.named_parameters()
    }


def test_it_says_what_the_student_would_say_with_the_mean_weights_and_without_dropout() -> None:
    network = student()
    mean = mean_of(network)
    image = torch.randn(2, 1, 16, 16, 16)
    expected = copy.deepcopy(network).eval()
    expected.load_state_dict(mean, strict=False)
    teacher = Teacher(network, mean)
    said = teacher(image)
    torch.testing.assert_close(said, expected.segment(image).detach())
    assert torch.equal(said, teacher(image)), "nothing is drawn"
    assert not any(module.training for module in teacher.network.modules())
    assert all(module.training for module in network.modules()), "the student's mode is its own"


def test_no_gradient_goes_into_it_and_the_mean_s_tensors_are_its_own() -> None:
    network = student()
    mean = mean_of(network)
    teacher = Teacher(network, mean)
    image = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
    said = teacher(image)
    assert not said.requires_grad
    own = dict(teacher.network.named_parameters())
    assert not any(parameter.requires_grad for parameter in own.values())
    for name, value in mean.items():
        assert own[name].data_ptr() == value.data_ptr()
        value.add_(1)  # the mean moves on
    assert not torch.equal(said, teacher(image))
    (network.segment(torch.randn(1, 1, 16, 16, 16)).sum() + said.sum()).backward()
    assert image.grad is None
    assert all(parameter.grad is None for parameter in own.values())
