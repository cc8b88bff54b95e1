"""From numbered samples to batches on the device, in order, whatever the number of worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from frugalseg.data.patches import Sample, Samples, SamplingSettings
from frugalseg.errors import UserError
from frugalseg.objectives import Batch
from frugalseg.objectives.across import Share
from frugalseg.training.stop import ignore_signals

ALONE = Share(0, 1)


class _Numbered(Dataset[Sample | UserError]):
    """The samples of a run from `first` to `stop`, by position; an error is returned, to be raised later.

    Raised in a worker it would come back with the worker's traceback as its text.
    """

    def __init__(self, samples: Samples, first: int, stop: int) -> None:
        self.samples, self.first, self.stop = samples, first, stop

    def __len__(self) -> int:
        return self.stop - self.first

    def __getitem__(self, position: int) -> Sample | UserError:
        try:
            return self.samples[self.first + position]
        except UserError as error:
            return error


class Collate:
    """Stacks a step's samples; a class so that it travels to worker processes."""

    def __init__(self, segmented: int) -> None:
        self.segmented = segmented

    def __call__(self, items: Sequence[Sample | UserError]) -> Batch | UserError:
        """Return the batch, still on the CPU, or the first error."""
        samples: list[Sample] = []
        for item in items:
            if isinstance(item, UserError):
                return item
            samples.append(item)
        extra = {
            name: torch.from_numpy(np.stack([sample.extra[name] for sample in samples]))
            for name in samples[0].extra
        }
        annotated = [sample.annotated for sample in samples if sample.annotated is not None]  # all samples, or none
        weak = [
            sample.weak for sample in samples if sample.weak is not None
        ]  # of unlabelled ones, which stand last
        guess = [sample.guess for sample in samples if sample.guess is not None]  # likewise
        return Batch(
            image=torch.from_numpy(np.stack([sample.image for sample in samples])),
            target=torch.from_numpy(np.stack([sample.target for sample in samples])),
            weight=torch.from_numpy(np.stack([sample.weight for sample in samples])),
            keys=torch.tensor([sample.key for sample in samples], dtype=torch.int64),
            cases=torch.tensor([sample.case for sample in samples], dtype=torch.int64),
            segmented=self.segmented,
            extra=extra,
            inside=torch.from_numpy(np.stack([sample.inside for sample in samples])),
            annotated=torch.from_numpy(np.stack(annotated)) if annotated else None,
            weak=torch.from_numpy(np.stack(weak)) if weak else None,
            guess=torch.from_numpy(np.stack(guess)) if guess else None,
        )


@dataclass(frozen=True)
class _Steps(Sampler[list[int]]):
    """The positions of a process's samples, step by step."""

    steps: int
    size: int
    share: Share

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.steps * self.size, self.size):
            yield list(range(start + self.share.rank, start + self.size, self.share.world))


def require_enough(sampling: SamplingSettings, world: int) -> None:
    """Refuse more processes than a step has samples.

    Raises:
        UserError: Names both numbers.
    """
    size = sampling.labelled + sampling.unlabelled
    if world > size:
        raise UserError(
            f"{world} processes cannot share the {size} samples of a step; take fewer --devices or --nodes, or "
            "more samples (sampling.labelled, sampling.unlabelled)",
            "training.devices",
        )


def segmented_of(samples: Samples, share: Share) -> int:
    """Return how many of a process's first samples have logits.

    With a fixed mix the unlabelled samples stand last and need none; otherwise any sample may be labelled. At least
    one has them, so that every process uses the same parameters: an unlabelled one's weights are 0.
    """
    last = samples.sampling.labelled if samples.sampling.mix == "fixed" else samples.per_step
    return max(1, len(range(share.rank, last, share.world)))


def batches(
    samples: Samples, first_step: int, steps: int, workers: int, device: torch.device, share: Share = ALONE
) -> Generator[Batch, None, None]:
    """Yield the batches of steps `first_step` to `steps` - 1, or a process's share of them.

    The samples of a step are the same on any number of processes, which take turns: labelled ones are spread
    first, then unlabelled ones, so that the processes' counts differ by one at most.

    Raises:
        DataError: A stored case cannot be read.
    """
    size = samples.per_step
    loader = DataLoader(
        _Numbered(samples, first_step * size, steps * size),
        batch_sampler=_Steps(steps - first_step, size, share),
        num_workers=workers,
        collate_fn=Collate(segmented_of(samples, share)),
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
        # The iterator draws a seed for its workers; from a generator of its own, not from the global one.
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=ignore_signals,
    )
    others = multiprocessing.active_children()
    iterator = iter(loader)
    started = [child for child in multiprocessing.active_children() if child not in others]
    try:
        for batch in iterator:
            if isinstance(batch, UserError):
                raise batch
            yield to_device(batch, device)
    finally:
        del iterator  # asks the workers to leave, and waits 5 seconds for each
        for worker in started:
            # It is deaf to the loader's SIGTERM (see `ignore_signals`): stuck, it would keep this process for good.
            if worker.is_alive():
                worker.kill()
            worker.join()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on the device; the copy overlaps with computation, as the memory is pinned (`Batch`)."""
    if device.type == "cpu":
        return batch
    return batch.with_each(lambda tensor: tensor.to(device, non_blocking=True))
