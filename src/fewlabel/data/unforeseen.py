"""Errors of libraries on files that nobody foresaw, as faults that name the file: one file must not cost the others."""

from __future__ import annotations

import logging
import zlib

from fewlabel.core.errors import Fault

_log = logging.getLogger(__name__)


def unforeseen_errors() -> tuple[type[Exception], ...]:
    """What reading, resampling or writing a file may raise, besides the package's own errors."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    # zlib's and nibabel's errors share no base with any other.
    usual = (OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, EOFError)
    return (*usual, zlib.error, ImageFileError, HeaderDataError)


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
