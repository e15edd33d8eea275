"""Another process, as in a second terminal: a fork of the server of ranks, for a new Python would load torch first."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from fewlabel.cli import main
from fewlabel.engine.lock import take
from kit.ranks import PRELOADED


def _context() -> ForkServerContext:
    multiprocessing.set_forkserver_preload(PRELOADED)
    return multiprocessing.get_context("forkserver")


def begun(
    words: Sequence[str], environment: Mapping[str, str] | None = None, prepare: Callable[[], object] | None = None
) -> BaseProcess:
    """A command of ``fewlabel`` at work in another process, on one thread.

    Args:
        words: The command line.
        environment: Variables that the process has beside those of this one.
        prepare: Defined at the top of a test module; what the process does first.
    """
    process = _context().Process(target=_command, args=(list(words), dict(environment or {}), prepare), daemon=True)
    process.start()
    return process


def _command(words: list[str], environment: dict[str, str], prepare: Callable[[], object] | None) -> None:
    os.environ |= environment
    torch.set_num_threads(1)
    if prepare is not None:
        prepare()
    main(words)


def ended(process: BaseProcess) -> int:
    """The exit code of a process, once it has ended.

    Raises:
        TimeoutError: If it does not for four minutes.
    """
    process.join(240)
    if process.exitcode is None:
        raise TimeoutError(f"process {process.pid} does not end")
    return process.exitcode


def _hold(folder: Path, told: Connection) -> None:
    kept = take(folder)
    told.send(kept is not None)
    time.sleep(300)


@contextmanager
def holding(folder: Path) -> Iterator[BaseProcess]:
    """The folder is locked by another process, which is killed at the end.

    Args:
        folder: Made if need be.

    Raises:
        EOFError: If it died before.
    """
    mine, theirs = _context().Pipe(duplex=False)
    process = _context().Process(target=_hold, args=(folder, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not mine.recv():
            raise RuntimeError(f"{folder} cannot be locked")
        yield process
    finally:
        process.kill()
        process.join()
        mine.close()
