"""Run a function in several gloo processes on this machine and give back what each returned."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def _work(rank: int, count: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    try:
        torch.save(function(*arguments), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def run_ranks(folder: Path, function: Callable[..., Any], *arguments: Any, count: int = 2) -> list[Any]:
    """Results of ``function(*arguments)`` in each of ``count`` processes, in rank order.

    Args:
        folder: An empty folder for the rendezvous and the results.
        function: Defined at the top of a test module; finds its rank through ``fewlabel.core.collective``.
        *arguments: Passed to it in every process.
        count: Number of processes.
    """
    # One server imports torch once; every rank of every test is then a fork of it.
    multiprocessing.set_forkserver_preload(["torch", "torch.distributed.nn.functional"])
    torch.multiprocessing.start_processes(
        _work, (count, str(folder), function, arguments), nprocs=count, start_method="forkserver"
    )
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(count)]
