"""Several processes that wait for each other: one that hangs must end the run, and be seen where it hangs.

A process that dies closes its connections, and the others notice at their next exchange. One that hangs keeps them:
the others wait for :data:`PATIENCE` and end, and ``torchrun`` ends the one that hangs. Shortly before, each prints
where its threads stand. What was saved before is what ``--resume`` goes on from.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from fewlabel.core.collective import world_size

#: How long processes wait for one another; a first step that is compiled takes minutes.
PATIENCE = timedelta(minutes=30)
#: Share of it after which stacks are printed, and share of it for which a watch is not set anew: that takes a thread.
_PRINTED, _FRESH = 0.95, 0.05


@contextmanager
def stacks_if_stalled() -> Iterator[Callable[[], None]]:
    """A watch over steps that several processes take together; alone, nothing is watched.

    Yields:
        What is to be called at each step. Where the next call takes nearly as long as others would wait, the stacks of
        all threads are printed to the console.
    """
    if world_size() == 1:
        yield lambda: None
        return
    patience, since = PATIENCE.total_seconds(), float("-inf")

    def alive() -> None:
        nonlocal since
        if (now := time.monotonic()) - since >= _FRESH * patience:
            since = now
            faulthandler.dump_traceback_later(_PRINTED * patience, file=sys.__stderr__ or 2)

    try:
        yield alive
    finally:
        faulthandler.cancel_dump_traceback_later()
