"""pydicom, which is optional, made to keep quiet: what it would warn of are the very values of a patient's tags."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

from fewlabel.core.errors import DataError, Fault

_lock = threading.Lock()
_inside: list[None] = []
_filters: list[warnings.catch_warnings[None]] = []
_INSTALL = "Install what reads it: pip install 'fewlabel[dicom]'"


@contextmanager
def quiet() -> Iterator[None]:
    """While any thread is inside, Python warns of nothing: pydicom's warnings quote tags, and come when these are read.

    ``warnings.catch_warnings`` of each would leave all warnings off where threads enter and leave it in turn: they
    share one.
    """
    with _lock:
        if not _inside:
            _filters.append(warnings.catch_warnings())
            _filters[0].__enter__()
            warnings.simplefilter("ignore")
        _inside.append(None)
    try:
        yield
    finally:
        with _lock:
            _inside.pop()
            if not _inside:
                _filters.pop().__exit__(None, None, None)


@cache
def pydicom_library() -> Any:
    """The module pydicom; values that break a rule of the standard are taken as they are, without a word.

    Raises:
        DataError: If it is not installed.
    """
    if find_spec("pydicom") is None:
        raise DataError("DICOM cannot be read:", [Fault("DICOM is read with the package pydicom", remedy=_INSTALL)])
    import pydicom

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return pydicom


def code_dictionary() -> Any:
    """The codes of the standard as pydicom has them, which takes a second to load.

    Raises:
        DataError: If pydicom is not installed.
    """
    pydicom_library()
    from pydicom.sr.codedict import codes

    return codes
