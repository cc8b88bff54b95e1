"""From numbered samples to batches on the device, in order, whatever the number of worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from frugalseg.data.patches import Sample, Samples
from frugalseg.errors import UserError
from frugalseg.objectives import Batch
from frugalseg.training.stop import ignore_signals


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
        return Batch(
            image=torch.from_numpy(np.stack([sample.image for sample in samples])),
            target=torch.from_numpy(np.stack([sample.target for sample in samples])),
            weight=torch.from_numpy(np.stack([sample.weight for sample in samples])),
            keys=torch.tensor([sample.key for sample in samples], dtype=torch.int64),
            cases=torch.tensor([sample.case for sample in samples], dtype=torch.int64),
            segmented=self.segmented,
            extra=extra,
        )


def batches(samples: Samples, first_step: int, steps: int, workers: int, device: torch.device) -> Iterator[Batch]:
    """Yield the batches of steps `first_step` to `steps` - 1.

    Raises:
        DataError: A stored case cannot be read.
    """
    size = samples.per_step
    # With a fixed mix the unlabelled samples stand last and need no logits; otherwise any sample may be labelled.
    segmented = samples.sampling.labelled if samples.sampling.mix == "fixed" else size
    loader = DataLoader(
        _Numbered(samples, first_step * size, steps * size),
        batch_size=size,
        shuffle=False,
        num_workers=workers,
        collate_fn=Collate(segmented),
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
        # The iterator draws a seed for its workers; from a generator of its own, not from the global one.
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=ignore_signals,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield to_device(batch, device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on the device; the copy overlaps with computation where the memory is pinned."""
    if device.type == "cpu":
        return batch

    def move(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, non_blocking=True)

    return Batch(
        image=move(batch.image),
        target=move(batch.target),
        weight=move(batch.weight),
        keys=move(batch.keys),
        cases=batch.cases,
        segmented=batch.segmented,
        extra={name: move(tensor) for name, tensor in batch.extra.items()},
    )
