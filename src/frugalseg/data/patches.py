"""Numbered training samples: sample n of a run is a pure function of (seed, n).

A step takes `labelled` samples from the labelled cases and `unlabelled` ones from the others, in this order, so
the two kinds have fixed places in a batch. Each kind goes through its cases in a new random order every round.
Whoever asks for a sample, in whatever process and order, gets the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from frugalseg.data import augment
from frugalseg.data.augment import AugmentSettings
from frugalseg.data.deform import Deformed, deformed
from frugalseg.data.intensities import intensities
from frugalseg.data.moved import moved
from frugalseg.data.scheme import IGNORED
from frugalseg.data.store import ArrayCache, StoredCase
from frugalseg.errors import UserError
from frugalseg.settings import Settings

Crop = tuple[int, int, int]
Target = Callable[[NDArray[np.uint8], tuple[float, float, float]], dict[str, NDArray[Any]]]


class SamplingSettings(Settings):
    """Which samples make a step."""

    labelled: Annotated[int, Field(ge=0, le=4096)] = 2
    """Labelled crops in a step; 0 in a pre-training, and there alone."""
    unlabelled: Annotated[int, Field(ge=0, le=4096)] = 0
    """Unlabelled crops in a step; the methods named ss... use as many as labelled ones."""
    mix: Literal["fixed", "published"] = "fixed"
    """`fixed`: these numbers in every step. `published`: all samples of a step are drawn uniformly over all
    volumes, labelled or not (Iwasawa et al. 2020), so that few steps see a label when labels are few."""
    foreground: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of labelled crops that are centred on a voxel of a randomly chosen structure."""


@dataclass(frozen=True)
class Sample:
    """One crop. `weight` is 0 where nothing may be learnt from `target`; see DESIGN "One mask".

    `weight` is (1, x, y, z), or (R, x, y, z) in a run with regions that were not annotated in every case. In one
    with exclusive classes of that kind `annotated` (K,) has a 0 for each class that the label does not show.
    `inside` (1, x, y, z) is 1 on the volume's own voxels, 0 where the crop reaches beyond it, labelled or not.
    `key` seeds whatever the network draws for this sample (dropout, negatives, noise). `weak` is the image
    before its intensities were changed; unlabelled samples have it where it was asked for. `guess`: the crop of the
    case's own, where it has one.
    """

    image: NDArray[np.float32]
    target: NDArray[np.uint8]
    weight: NDArray[np.uint8]
    inside: NDArray[np.uint8]
    key: int
    case: int
    extra: dict[str, NDArray[Any]]
    annotated: NDArray[np.uint8] | None = None
    weak: NDArray[np.float32] | None = None
    guess: NDArray[np.uint8] | None = None


class Samples:
    """The samples of a run, by number.

    Args:
        cases: Labelled cases first, then unlabelled ones.
        labelled: How many of `cases` are labelled.
        crop: Sides of a crop in voxels.
        groups: Number of target groups R (label scheme).
        classes: Number of classes K of a group.
        sampling: Which samples make a step.
        augmentation: What happens to them.
        mirror_axes: Axes along which crops may be flipped.
        seed: The run's seed.
        targets: What makes further targets from (label, spacing in mm), by the name of the task.
        weak: Whether unlabelled samples keep their image as it was before its intensities were changed.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        labelled: int,
        crop: Crop,
        groups: int,
        classes: int,
        sampling: SamplingSettings,
        augmentation: AugmentSettings,
        mirror_axes: tuple[int, ...],
        seed: int,
        targets: Mapping[str, Target] | None = None,
        weak: bool = False,
    ) -> None:
        if sampling.unlabelled and sampling.mix == "fixed" and labelled == len(cases):
            raise UserError("there is no unlabelled volume; set sampling.unlabelled=0", "sampling.unlabelled")
        self.cases = tuple(cases)
        self.labelled = labelled
        self.crop = crop
        self.groups, self.classes = groups, classes
        self.sampling = sampling
        self.augmentation = augmentation
        self.mirror_axes = mirror_axes
        self.seed = seed
        self.targets = dict(targets or {})
        self.weak = weak
        self._arrays = ArrayCache()
        self._points: dict[int, NDArray[np.int32]] = {}
        # The run's, not the sample's: all samples have arrays of the same kind and shape.
        self._in_part = any(case.in_part for case in self.cases[:labelled])

    @property
    def per_step(self) -> int:
        """Samples in a step."""
        return self.sampling.labelled + self.sampling.unlabelled

    def choose(self, number: int) -> int:
        """Return the index of the case that sample `number` is cut from."""
        step, slot = divmod(number, self.per_step)
        if self.sampling.mix == "published":
            return self._turn(number, 0, len(self.cases), stream=2)
        if slot < self.sampling.labelled:
            return self._turn(step * self.sampling.labelled + slot, 0, self.labelled, stream=0)
        draw = step * self.sampling.unlabelled + slot - self.sampling.labelled
        return self._turn(draw, self.labelled, len(self.cases), stream=1)

    def _turn(self, draw: int, first: int, stop: int, stream: int) -> int:
        """Case of the draw-th turn: every round visits all cases once, in an order of its own."""
        round_, place = divmod(draw, stop - first)
        order = self._generator(round_, 1 + stream).permutation(stop - first)
        return first + int(order[place])

    def _generator(self, number: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, stream], counter=[0, 0, 0, number]))

    def __getitem__(self, number: int) -> Sample:
        """Cut, augment and return sample `number`."""
        index = self.choose(number)
        case = self.cases[index]
        generator = self._generator(number, 0)
        key = int(generator.integers(2**31))
        flat = tuple(axis for axis, side in enumerate(case.shape) if side == 1)
        drawn = augment.draw(
            generator, self.augmentation, len(case.background), case.spacing, self.mirror_axes, flat
        )
        box = augment.reach(drawn.matrix, self.crop)
        labelled = index < self.labelled
        start = self._start(generator, index, box)
        background = np.array(case.background, np.float32)[:, None, None, None]
        bent = self._bent(case, start, box, drawn) if labelled else None
        if bent is not None:
            start, box = bent.start, bent.sides
        inside = self._inside(case.shape, start, box)
        image = np.where(inside, self._read(case.image, start, box).astype(np.float32), background)
        label = self._read(case.label, start, box) if labelled and case.label is not None else None
        guess = None if labelled or case.guess is None else self._read(case.guess, start, box)
        if bent is not None:
            image, label, _ = moved(image - background, label, inside, bent.look_up, self.groups, self.classes)
            inside = bent.inside[None]
            image = np.where(inside, image + background, background)
        elif drawn.matrix is not None:
            turning = drawn.matrix
            if guess is not None:
                turned = augment.resample(guess.astype(np.float32), drawn.matrix, self.crop)
                guess = np.rint(turned).astype(np.uint8)
            image, label, inside = moved(
                image - background, label, inside, lambda box: augment.resample(box, turning, self.crop),
                self.groups, self.classes,
            )  # fmt: skip
            image = np.where(inside, image + background, background)
        unknown = _unknown(len(image), case.missing, drawn.dropped)
        weak = None
        if self.weak and not labelled:
            weak = np.ascontiguousarray(augment.flip(image.copy(), drawn.flips), np.float32)
            weak[_unknown(len(image), case.missing, ())] = (
                0  # the teacher sees channels that the student must do without
            )
        image = augment.flip(intensities(image, drawn), drawn.flips)
        image[unknown] = 0
        inside = augment.flip(inside, drawn.flips)
        if label is None:
            label = np.full((self.groups, *self.crop), IGNORED, np.uint8)
        label = augment.flip(label, drawn.flips)
        label, weight = self._split(label, inside, index)
        extra = {
            f"{task}.{name}": array
            for task, make in self.targets.items()
            for name, array in make(label, case.spacing).items()
        }
        annotated = self._annotated(index)
        own = inside.astype(np.uint8)
        image = np.ascontiguousarray(image, np.float32)
        guess = None if guess is None else augment.flip(guess, drawn.flips)
        return Sample(image, label, weight, own, key, index, extra, annotated, weak, guess)

    def _bent(self, case: StoredCase, start: Crop, box: Crop, drawn: augment.Draw) -> Deformed | None:
        """Return where the voxels of a labelled case's crop lie if it is to be deformed, and can be."""
        if drawn.deform is None or not case.deformations:
            return None
        which, part = drawn.deform
        deformation = case.deformations[int(which * len(case.deformations))]
        field = self._arrays.open(deformation.field)
        sides = (field.shape[1], field.shape[2], field.shape[3])
        return deformed(
            (sides, lambda first, box: self._read(deformation.field, first, box)), deformation,
            case.shape, case.spacing, np.array(start) + (np.array(box) - 1) / 2, drawn.matrix, self.crop, part,
        )  # fmt: skip

    def _split(
        self, label: NDArray[np.uint8], inside: NDArray[np.bool_], index: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Split a label (R, x, y, z) with ignored voxels into target, 0 there, and weight: what is known."""
        unknown = label[:1] == IGNORED  # ignored is ignored in every group
        weight = inside & ~unknown
        flags = self.cases[index].annotated
        if self._in_part and self.groups > 1:
            regions = np.array([flags is None or flags[group] for group in range(self.groups)])
            weight = weight & regions[:, None, None, None]
        return np.where(unknown, 0, label).astype(np.uint8, copy=False), weight.astype(np.uint8)

    def _annotated(self, index: int) -> NDArray[np.uint8] | None:
        """Return 0 for each exclusive class that is not known in the case, None where the run has no such case."""
        if not self._in_part or self.groups > 1:
            return None
        flags = self.cases[index].annotated
        known = (index < self.labelled) if flags is None else flags
        return np.array([True, *np.broadcast_to(known, self.classes - 1)], np.uint8)

    def _start(self, generator: np.random.Generator, index: int, box: Crop) -> tuple[int, int, int]:
        """First voxel of the box in the volume; negative where the volume is smaller than the box."""
        case = self.cases[index]
        centre = None
        if index < self.labelled and generator.random() < self.sampling.foreground:
            centre = self._foreground(generator, index)
        start = []
        for axis, (side, size) in enumerate(zip(box, case.shape)):
            low, high = sorted((0, size - side))
            if centre is None:
                start.append(int(generator.integers(low, high + 1)))
            else:
                start.append(int(np.clip(centre[axis] - side // 2, low, high)))
        return start[0], start[1], start[2]

    def _foreground(self, generator: np.random.Generator, index: int) -> NDArray[np.int32] | None:
        path = self.cases[index].points
        if index not in self._points and path is not None:
            self._points[index] = np.asarray(self._arrays.open(path)[:]).reshape(-1, 4)
            if (flags := self.cases[index].annotated) is not None:
                self._points[index] = self._points[index][np.array(flags)[self._points[index][:, 0]]]
        points = self._points.get(index)
        if points is None or not len(points):
            return None
        rows = points[points[:, 0] == generator.choice(np.unique(points[:, 0]))]
        return np.asarray(rows[generator.integers(len(rows)), 1:])

    def _read(self, path: Any, start: tuple[int, int, int], box: Crop) -> NDArray[Any]:
        """Read a box of a stored array (lead, x, y, z), zeros where it lies outside."""
        array = self._arrays.open(path)
        spans = [(max(0, s), min(size, s + side)) for s, side, size in zip(start, box, array.shape[1:])]
        (x0, x1), (y0, y1), (z0, z1) = spans
        part = np.asarray(array[:, x0:x1, y0:y1, z0:z1])
        if part.shape[1:] == box:
            return part
        whole = np.zeros((part.shape[0], *box), part.dtype)
        a, b, c = (low - s for (low, _), s in zip(spans, start))
        whole[:, a : a + x1 - x0, b : b + y1 - y0, c : c + z1 - z0] = part
        return whole

    def _inside(self, shape: Crop, start: tuple[int, int, int], box: Crop) -> NDArray[np.bool_]:
        inside = np.ones((1, 1, 1, 1), np.bool_)
        for axis, (s, side, size) in enumerate(zip(start, box, shape)):
            places = np.arange(s, s + side)
            view = [1, 1, 1, 1]
            view[axis + 1] = side
            inside = inside & ((places >= 0) & (places < size)).reshape(view)
        return inside


def _unknown(channels: int, missing: Sequence[int], dropped: Sequence[int]) -> list[int]:
    """Return the channels that are 0: those without a file, and the dropped ones unless none would be left."""
    both = sorted({*missing, *dropped})
    return both if len(both) < channels else list(missing)
