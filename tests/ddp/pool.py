"""Two processes that talk over gloo on the loopback interface, started once and used by many tests."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

WORLD = 2
TIMEOUT = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(rank: int, port: int, pipe: Connection) -> None:
    """Join the group, then do what comes through the pipe until it closes."""
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    faulthandler.register(signal.SIGUSR1)
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=WORLD)
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, function(*arguments)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))


class Pool:
    def __init__(self) -> None:
        # A forked child would inherit PyTorch's threads, and hang.
        context = multiprocessing.get_context("spawn")
        port = free_port()
        self.pipes: list[Connection] = []
        self.processes = []
        self.intact = True
        for rank in range(WORLD):
            near, far = context.Pipe()
            process = context.Process(target=serve, args=(rank, port, far), daemon=True)
            process.start()
            far.close()
            self.pipes.append(near)
            self.processes.append(process)

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what `function(*arguments)` returns in each process; it runs in both at the same time."""
        assert self.intact, "an earlier call left the processes apart"
        self.intact = False
        for pipe in self.pipes:
            pipe.send((function, arguments))
        results: dict[int, Any] = {}
        deadline = time.monotonic() + TIMEOUT
        while len(results) < WORLD:
            if time.monotonic() > deadline:
                for process in self.processes:
                    os.kill(process.pid or 0, signal.SIGUSR1)  # shows where
                time.sleep(1)
                raise TimeoutError(f"processes {set(range(WORLD)) - set(results)} hang")
            for rank, pipe in enumerate(self.pipes):
                if rank not in results and pipe.poll(0.01):
                    fine, results[rank] = pipe.recv()
                    assert fine, f"process {rank}: {results[rank]}"
        self.intact = True
        return [results[rank] for rank in range(WORLD)]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
