"""Run a function, or a command, in several gloo processes on this machine and give back what each returned."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

#: What the server of processes imports, once for all ranks of all tests that its parent runs.
PRELOADED = [
    *("torch", "torch.distributed.nn.functional", "pytest"),
    *("fewlabel.cli", "fewlabel.stages.pretrain", "fewlabel.stages.finetune"),
    *("fewlabel.methods.gcl", "fewlabel.regimes.supervised"),
]


def _work(rank: int, count: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    try:
        torch.save(function(*arguments), Path(folder) / f"{rank}.pt")
        # A rank whose function exchanges nothing would hang up while another is still being connected.
        dist.barrier()
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
    # One server imports what they need; every rank of every test is then a fork of it.
    multiprocessing.set_forkserver_preload(PRELOADED)
    torch.multiprocessing.start_processes(
        _work, (count, str(folder), function, arguments), nprocs=count, start_method="forkserver"
    )
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(count)]


def run_command(folder: Path, words: Sequence[str], count: int = 2) -> None:
    """A command of ``fewlabel`` in so many processes, which take each other for those that ``torchrun`` starts.

    Args:
        folder: An empty folder for the rendezvous.
        words: The command line.
        count: Number of processes.

    Raises:
        torch.multiprocessing.ProcessRaisedException: If it ends with anything but 0.
    """
    run_ranks(folder, _command, list(words), count=count)


def as_torchrun_does() -> None:
    """Where this is one of several ranks, tell their environment as ``torchrun`` would."""
    if not dist.is_initialized():
        return
    count, rank = str(dist.get_world_size()), str(dist.get_rank())
    # Nobody listens at the port: these processes have met already.
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "RANK": rank, "LOCAL_RANK": rank, **meeting}


def _command(words: list[str]) -> None:
    as_torchrun_does()
    from fewlabel.cli import main

    try:
        main(words)
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{words} ended with {end.code}") from end
