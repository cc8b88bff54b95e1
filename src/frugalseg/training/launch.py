"""Lightning Fabric for one process or many: who starts them, and with what they talk.

Fabric starts a run on one machine by itself: the first process runs the same command line again for each further
one. On several machines torchrun or srun starts every process. See docs/distributed.md.

Fabric is imported where a run begins: it brings PyTorch's compiler with it, two seconds that a prediction need not
wait for.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from frugalseg.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric as Fabric  # the type, which no other room may import itself
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

WHERE = "training.devices"
# The others wait while the first process prepares cases or looks at the validation cases. A process that dies is
# noticed at once by other means.
PATIENCE = timedelta(hours=2)


def make_fabric(device: str, precision: str, devices: int = 1, nodes: int = 1) -> Fabric:
    """Return Fabric for `devices` processes on each of `nodes` machines, not launched.

    Raises:
        UserError: There are fewer GPUs, or another number of processes was started from outside.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells the precision, as we do
    logging.getLogger("lightning_utilities").setLevel(logging.WARNING)
    environment = choose_environment(devices, nodes)
    kwargs: dict[str, Any] = {"precision": "bf16-mixed" if precision == "bf16" else "32-true"}
    if devices * nodes > 1:
        if device == "cuda" and devices > torch.cuda.device_count():
            raise UserError(f"{devices} GPUs were asked for, there are {torch.cuda.device_count()} here", WHERE)
        # The strides of a 1x1x1 kernel's gradient in channels-last order are ambiguous; its copy costs nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        kwargs |= {"strategy": DDPStrategy(timeout=PATIENCE), "num_nodes": nodes, "plugins": [environment]}
        if nodes == 1 and sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nothing has to leave the machine
    return Fabric(accelerator="gpu" if device == "cuda" else "cpu", devices=devices, **kwargs)


def choose_environment(devices: int, nodes: int) -> ClusterEnvironment:
    """Return who starts the processes: torchrun, srun, or Fabric.

    Raises:
        UserError: torchrun or srun started another number of processes, or nobody could start them.
    """
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    world = devices * nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _require_started("torchrun", int(os.environ["WORLD_SIZE"]), devices, nodes)
        return TorchElasticEnvironment()
    step = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if "SLURM_PROCID" in os.environ and step > 1:
        _require_started("srun", step, devices, nodes)
        return SLURMEnvironment(auto_requeue=False)
    if nodes > 1 and "MASTER_ADDR" not in os.environ:
        raise UserError(
            f"a run on {nodes} machines is started by torchrun or srun on each of them; see docs/distributed.md",
            "training.nodes",
        )
    environment = LightningEnvironment()
    if world > 1 and not environment.creates_processes_externally and not _restartable():
        raise UserError(
            "this program cannot be started a second time for the other processes; use the command `frugalseg`, "
            "or torchrun",
            WHERE,
        )
    return environment


def _require_started(by: str, started: int, devices: int, nodes: int) -> None:
    if started != devices * nodes:
        raise UserError(
            f"{by} started {started} processes; --devices {devices} on --nodes {nodes} make {devices * nodes}",
            WHERE,
        )


def _restartable() -> bool:
    main = sys.modules.get("__main__")
    return getattr(main, "__spec__", None) is not None or Path(sys.argv[0]).is_file()
