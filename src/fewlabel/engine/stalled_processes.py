"""Several processes that wait for each other: one that hangs must end the run, and be seen where it hangs.

A process that dies closes its connections, and the others notice at their next exchange. One that hangs keeps them:
the others wait for :data:`PATIENCE`, print where every thread stands, and end. So does the one that hangs, if it still
runs. What was saved before is what ``--resume`` goes on from.
"""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from fewlabel.core.collective import world_size

#: How long processes wait for one another; a first step that is compiled takes minutes.
PATIENCE = timedelta(minutes=30)
#: So long before the end of it, stacks are printed.
_BEFORE = 0.05


@contextmanager
def stacks_if_stalled() -> Iterator[None]:
    """Print the stacks of all threads to the console if what is within takes nearly as long as others would wait."""
    if world_size() == 1:
        yield
        return
    faulthandler.dump_traceback_later(PATIENCE.total_seconds() * (1 - _BEFORE), file=sys.__stderr__ or 2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
