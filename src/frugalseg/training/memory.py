"""Telling that memory ran out, whatever says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from frugalseg.errors import TrainingError

# What PyTorch's allocators for the processor say; there is no class for it. oneDNN fails to make its own buffers.
SIGNS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "could not create a memory object",
)


ADVICE = (
    "; the last checkpoint is intact: free memory and --resume, or --resume with a smaller chunk of contrastive "
    "coding (--set auxiliary.cpc.chunk=N), or start a new run that needs less: a smaller crop, fewer crops a step "
    "(sampling.labelled, sampling.unlabelled) or network.width"
)


class OutOfMemory(TrainingError):
    """Memory ran out in a step, and taking it once more did not help or could not be done.

    Args:
        what: The step, and what the allocator said; what to do is added.
    """

    def __init__(self, what: str, where: str | None = "memory") -> None:
        super().__init__(f"{what.removesuffix(ADVICE)}{ADVICE}", where)

    @property
    def happened(self) -> str:
        """The step, and what the allocator said."""
        return self.what.removesuffix(ADVICE)


def memory_ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out; on Linux a process is often killed instead, without an error."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


@contextmanager
def noticing_memory(step: int) -> Iterator[None]:
    """Within the `with` block, which belongs to step number `step` (from 0), such an error becomes OutOfMemory.

    Raises:
        OutOfMemory: Instead of what was raised.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not memory_ran_out(error):
            raise
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise OutOfMemory(f"ran out in step {step + 1} ({why})") from error
