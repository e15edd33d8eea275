"""SIGTERM and a closed terminal end what runs as Ctrl-C does: with what is written recorded, nothing half written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Those of them that the system has.
STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` where one of :data:`STOPPING` comes while it lasts.

    A signal that is ignored, as under ``nohup``, stays so, and one that somebody handles is theirs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in STOPPING if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
