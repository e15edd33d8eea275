"""pydicom, which is optional, made to keep quiet: what it would warn of are the very values of a patient's tags."""

from __future__ import annotations

import logging
from functools import cache
from importlib.util import find_spec
from typing import Any

from fewlabel.core.errors import DataError, Fault

_INSTALL = "Install what reads it: pip install 'fewlabel[dicom]'"


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
