"""Errors that nobody foresaw on a file, as faults that name the file: one file must not cost the others.

Whoever catches them catches every ``Exception``: errors of ``zlib``, ``struct``, Pillow, nibabel and zip files have no
base in common, and a list of them is never complete.
"""

from __future__ import annotations

import logging

from fewlabel.core.errors import Fault

_log = logging.getLogger(__name__)


def unforeseen_fault(error: Exception, where: str, problem: str = "cannot be read") -> Fault:
    """The fault of a file that led to such an error; the error itself goes to the log.

    Args:
        error: As caught.
        where: The file.
        problem: What did not work.
    """
    _log.debug("%s", where, exc_info=error)
    text = " ".join(str(error).split())
    reason = f"{type(error).__name__}{f': {text}' if text else ''}"
    remedy = "Check its header and its size, and export it anew if they are not right"
    return Fault(f"{problem} ({reason})", where, remedy)
