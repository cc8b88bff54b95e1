"""Arithmetic that comes out the same twice; docs/reproducibility.md says what that promises."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def arithmetic(deterministic: bool, device: str, threads: int | None = None) -> Iterator[None]:
    """Compute deterministically inside the `with` block; settings of the process are put back after it.

    Args:
        deterministic: Whether to do anything at all.
        device: "cpu": an operation without a deterministic form is an error. "cuda": it is a warning, because
            trilinear interpolation has no deterministic gradient there.
        threads: Threads of an operation: sums are split among them, so their number is part of the result. None
            leaves it as it is.
    """
    if not deterministic:
        yield
        return
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.get_num_threads(),
    )
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS has no other way to be told
    torch.use_deterministic_algorithms(True, warn_only=device == "cuda")
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before[2], before[3]
        torch.set_num_threads(before[4])
