"""What a teacher's labels and copy-paste make of a batch, by hand; and what they must not do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from frugalseg.objectives import Batch
from frugalseg.objectives.across import Share, _current
from frugalseg.semisup import CopyPasteSettings, PseudoLabelSettings

SIDES = (6, 6, 6)


def make_batch(labelled: int = 2, unlabelled: int = 2) -> Batch:
    count = labelled + unlabelled
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(count, 1, *SIDES, generator=generator) + torch.arange(count)[:, None, None, None, None]
    target = torch.zeros(count, 1, *SIDES, dtype=torch.uint8)
    target[:labelled] = torch.randint(0, 3, (labelled, 1, *SIDES), generator=generator, dtype=torch.uint8)
    weight = torch.ones(count, 1, *SIDES, dtype=torch.uint8)
    weight[labelled:] = 0
    inside = torch.ones_like(weight)
    inside[-1, :, 0] = 0
    weight[0, :, 1] = 0  # voxels that nobody annotated
    keys = torch.arange(count) + 10
    return Batch(image, target, weight, keys, torch.arange(count), labelled, inside=inside,
                 weak=100 + image[labelled:])  # fmt: skip


def teach(image: Tensor) -> Tensor:
    """Say class 2 with probability 0.8 in one half and class 1 with 0.5 in the other; be shown weak views alone."""
    assert bool((image > 99).all())
    p = torch.full((len(image), 3, *SIDES), 0.1)
    p[:, 2, :3], p[:, :2, :3] = 0.8, 0.1
    p[:, 1, 3:], p[:, 0, 3:], p[:, 2, 3:] = 0.5, 0.3, 0.2
    return p.log()


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_a_teacher_labels_the_unlabelled_samples_where_it_is_sure(labels: str) -> None:
    way = PseudoLabelSettings.model_validate({"labels": labels, "confidence": 0.7}).build(1, 3)
    batch = make_batch()
    found = way.prepare(batch, teach, step=0, steps=10)
    assert found.pseudo is not None
    assert torch.equal(found.image, batch.image)
    assert torch.equal(found.weight, batch.weight)
    assert found.segmented == 4
    assert found.pseudo.labelled == 2
    assert not found.pseudo.weight[:2].any()
    sure = torch.zeros(2, 1, *SIDES)
    sure[:, :, :3] = 1
    sure[1, :, 0] = 0  # outside its volume
    assert torch.equal(found.pseudo.weight[2:], sure)
    says = found.pseudo.truth[2, 0, :, 0, 0, 0]
    assert says == pytest.approx(torch.tensor([0.0, 0, 1] if labels == "hard" else [0.1, 0.1, 0.8]))


def test_the_factor_rises_to_the_weight() -> None:
    way = PseudoLabelSettings(weight=2.0, ramp=0.5).build(1, 3)
    values = [way.factor(step, 20) for step in range(20)]
    assert values[0] == pytest.approx(2 * math.exp(-5))
    assert values[5] == pytest.approx(2 * math.exp(-5 / 4))
    assert values[10:] == [2.0] * 10
    assert values == sorted(values)
    assert PseudoLabelSettings(ramp=0.0).build(1, 3).factor(0, 20) == 1.0
    assert PseudoLabelSettings().build(1, 3).factor(5, 20) < 1 == PseudoLabelSettings().build(1, 3).factor(6, 20)
    assert PseudoLabelSettings(first="registration").build(1, 3).factor(1, 20) == 1.0


def test_copy_paste_mixes_images_labels_and_weights_alike() -> None:
    way = CopyPasteSettings().build(1, 3)
    batch = make_batch()
    for step in (0, 1):
        found = way.prepare(batch, teach, step, steps=10)
        assert found.pseudo is not None
        assert torch.equal(found.image[:2], batch.image[:2])
        assert torch.equal(found.weight, batch.weight)
        for number in range(2):
            here, partner = 2 + number, number
            mine = found.image[here, 0] == batch.image[here, 0]
            theirs = found.image[here, 0] == batch.image[partner, 0]
            assert torch.equal(mine, ~theirs)
            inner = theirs if (step + number) % 2 == 0 else mine
            assert int(inner.sum()) == 4**3
            corners = inner.nonzero()
            assert (corners.max(dim=0).values - corners.min(dim=0).values).tolist() == [3, 3, 3]
            labels = found.pseudo.truth[here, 0].argmax(dim=0)
            assert torch.equal(labels[theirs], batch.target[partner, 0].long()[theirs])
            assert set(labels[mine].tolist()) <= {1, 2}
            weight = found.pseudo.weight[here, 0]
            assert torch.equal(weight[theirs], batch.weight[partner, 0].float()[theirs])
            own = batch.image_weight[here, 0]
            # The ramp is the teacher's: what is known of the labelled part counts from the first step on.
            risen = math.exp(-5 * (1 - step / 3) ** 2)
            assert weight[mine] == pytest.approx(0.5 * risen * own[mine])
            assert found.pseudo.factor == 1
            assert found.inside is not None
            assert batch.inside is not None
            assert torch.equal(found.inside[here, 0][theirs], batch.inside[partner, 0][theirs])
    again = way.prepare(batch, teach, 0, 10)
    other = way.prepare(replace(batch, keys=batch.keys + 1), teach, 0, 10)
    assert torch.equal(again.image, way.prepare(batch, teach, 0, 10).image)
    assert not torch.equal(again.image, other.image)


def test_of_several_processes_each_mixes_as_one_would() -> None:
    way, whole = CopyPasteSettings().build(1, 3), make_batch(2, 4)
    expected = way.prepare(whole, teach, 3, 10)
    assert whole.weak is not None
    assert whole.inside is not None
    for rank in range(2):
        rows = torch.arange(rank, 6, 2)
        mine = Batch(
            whole.image[rows], whole.target[rows], whole.weight[rows], whole.keys[rows], whole.cases[rows], 1,
            inside=whole.inside[rows], weak=whole.weak[rows[1:] - 2],
        )  # fmt: skip
        token = _current.set(Share(rank, 2))
        try:
            found = way.prepare(mine, teach, 3, 10)
        finally:
            _current.reset(token)
        assert torch.equal(found.image, expected.image[rows])
        assert found.pseudo is not None
        assert expected.pseudo is not None
        assert torch.equal(found.pseudo.truth, expected.pseudo.truth[rows])
        assert torch.equal(found.pseudo.weight, expected.pseudo.weight[rows])


@pytest.mark.parametrize("settings", [PseudoLabelSettings(), CopyPasteSettings()])
def test_what_unlabelled_samples_have_for_a_target_makes_no_difference(settings: PseudoLabelSettings) -> None:
    batch = make_batch()
    spoilt = batch.target.clone()
    spoilt[2:] = 2
    way = settings.build(1, 3)
    one, two = (way.prepare(b, teach, 5, 10) for b in (batch, replace(batch, target=spoilt)))
    assert one.pseudo is not None
    assert two.pseudo is not None
    assert torch.equal(one.pseudo.truth, two.pseudo.truth)
    assert torch.equal(one.pseudo.weight, two.pseudo.weight)
    assert torch.equal(one.image, two.image)


@pytest.mark.parametrize("settings", [PseudoLabelSettings(), CopyPasteSettings()])
@pytest.mark.parametrize(("labelled", "unlabelled"), [(2, 0), (0, 2)])
def test_a_process_with_one_kind_alone(settings: PseudoLabelSettings, labelled: int, unlabelled: int) -> None:
    batch = make_batch(labelled, unlabelled)
    batch = replace(batch, weak=batch.weak if unlabelled else None, segmented=max(1, labelled))
    found = settings.build(1, 3).prepare(batch, teach, 0, 10)
    assert found.pseudo is not None
    assert len(found.pseudo.truth) == len(batch.image)
    assert bool(found.pseudo.weight.any()) == bool(unlabelled)


def test_the_network_takes_over_between_two_shares_of_the_steps_and_as_far_as_asked() -> None:
    way = PseudoLabelSettings(first="registration", hand_over=(0.2, 0.6), taken_over=0.5).build(1, 3)
    assert [way.share_of_the_network(step, 10) for step in (0, 2, 4, 6, 9)] == pytest.approx([0, 0, 0.25, 0.5, 0.5])
    never = PseudoLabelSettings(first="registration", hand_over=None).build(1, 3)
    assert never.share_of_the_network(9, 10) == 0
    assert PseudoLabelSettings(taken_over=0.5).build(1, 3).share_of_the_network(0, 10) == 1, "there is nobody else"
    batch = make_batch(1, 1)
    known = torch.zeros(1, 3, *batch.image.shape[2:], dtype=torch.uint8)
    known[:, 2] = 255
    batch = replace(batch, guess=known)
    network = (
        teach(batch.weak).reshape(1, 1, 3, *batch.image.shape[2:]).softmax(dim=2)
        if batch.weak is not None
        else None
    )
    assert network is not None
    wanted = 0.5 * network + 0.5 * known[:, None].float() / 255
    assert torch.allclose(way.says(batch, teach, 8, 10), wanted)


def test_where_registered_cases_know_nothing_the_network_alone_teaches() -> None:
    way = PseudoLabelSettings(first="registration", hand_over=(0.0, 0.0), taken_over=0.5).build(1, 3)
    batch = make_batch(1, 1)
    guess = torch.zeros(1, 3, *SIDES, dtype=torch.uint8)
    guess[:, 1, :2] = 100  # at a volume's edge: a part of it, all of class 1
    says = way.says(replace(batch, guess=guess), teach, 5, 10)
    assert torch.allclose(says.sum(dim=2), torch.ones(1, 1, *SIDES))
    assert batch.weak is not None
    network = teach(batch.weak).reshape(1, 1, 3, *SIDES).softmax(dim=2)
    assert torch.allclose(says[:, :, :, 2:], network[:, :, :, 2:])
    double = replace(batch, guess=guess, image=batch.image.double(), weak=batch.weak.double())
    assert way.says(double, lambda image: teach(image).double(), 5, 10).dtype == torch.float64
    never = PseudoLabelSettings(first="registration", hand_over=None, labels="soft").build(1, 3)
    first = never.says(replace(batch, guess=guess), teach, 5, 10)
    assert torch.equal(first[0, 0, 1, :2], torch.ones(2, *SIDES[1:]))
    truth, sure = never.labels(first)
    assert not sure[:, :, 2:].any()
    assert not truth[:, :, :, 2:].any()
