"""Cells on Ray: across the cores and GPUs of this machine, or a cluster's. The same function on the same values.

A worker that dies takes nothing with it: Ray starts its cell again elsewhere, which goes on from the last
checkpoint, provided that the study's folder and the data are on a file system that all machines see.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from frugalseg.errors import UserError
from frugalseg.jobs.resources import usable_cpus
from frugalseg.study.cell import Outcome, Task, run_cell
from frugalseg.study.run import Mapper
from frugalseg.study.side_by_side import visible_gpus

AUTO = "auto"
RETRIES = 3  # of a cell whose worker died; an error of the cell itself is its outcome


def on_ray(address: str, threads: int = 1) -> Mapper:
    """Return what runs tasks on Ray.

    Args:
        address: "auto" for a Ray of our own on this machine, which ends with the study, or a cluster's address.
        threads: Processor cores of a cell. A machine with GPUs runs a cell on each of them.

    Raises:
        UserError: Ray is not installed, or does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "needs Ray, which is not installed: install ray, 2.55 or later, into this environment", "--ray"
        ) from error

    def mapper(tasks: Sequence[Task], ended: Callable[[Outcome], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="frugalseg-ray-") as private:  # Ray's own would be world-writable
            _start(ray, address, private)
            try:
                _run(ray, tasks, ended, threads)
            finally:
                ray.shutdown()

    return mapper


def at_a_time_on_ray() -> int:
    """Return how many cells a Ray of our own runs at a time on this machine: one a GPU, else one a processor."""
    return len(visible_gpus()) or usable_cpus()


def _start(ray: Any, address: str, private: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry out of a hospital
    own = address == AUTO
    if own:
        # Otherwise Ray would write a token, readable by all, into the home directory.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    settings: dict[str, Any] = {"include_dashboard": False, "_temp_dir": private} if own else {"address": address}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **settings)
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise UserError(f"Ray does not start or answer ({line}); is the cluster running?", "--ray") from error


def _run(ray: Any, tasks: Sequence[Task], ended: Callable[[Outcome], None], threads: int) -> None:
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=RETRIES)(run_cell)
    pending = {remote.remote(task): task for task in tasks}
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=1)
        task = pending.pop(ready[0])
        try:
            outcome = ray.get(ready[0])
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:  # its worker died again and again
            outcome = Outcome(
                task.folder, f"its worker died {RETRIES + 1} times: {type(error).__name__}", 0.0, None, True
            )
        ended(outcome)
