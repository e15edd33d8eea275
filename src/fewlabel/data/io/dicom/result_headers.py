"""What every DICOM object that is made of a series begins with: whose it is, taken over, and who made it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewlabel.core.errors import DataError, Fault, FewlabelError, is_disk_full
from fewlabel.core.provenance import library_versions
from fewlabel.core.unfinished_files import written_beside
from fewlabel.data.io.dicom.quiet_pydicom import quiet
from fewlabel.data.io.dicom.series import Series
from fewlabel.data.io.dicom.structure_headers import MAKER
from fewlabel.data.io.dicom.tags import text_of, whole_of

UNICODE = "ISO_IR 192"
#: Added to the number of the series: results stand behind what a scanner numbers.
_NUMBERS = 1000
#: Of the patient and the study, which a result belongs to; each must be there, even if it is empty.
PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
#: Likewise, but left out where they are missing.
ALSO = ("IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight", "StudyDescription")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID")
_REMEDY = "Leave out format: a NIfTI mask needs none of that"


def filled(header: Any) -> Any:
    """The header of a slice as a result may take it up: texts in Unicode, and an empty value for what must be there."""
    header.decode()
    header.SpecificCharacterSet = UNICODE
    for name in PATIENT_AND_STUDY:
        if name not in header:
            setattr(header, name, "")
    return header


def series_number(header: Any) -> int:
    """Of the result of a series."""
    return (whole_of(header, "SeriesNumber") or 0) + _NUMBERS


def version() -> str:
    """Of this package."""
    return library_versions()[MAKER]


def check_identity(series: Series, what: str) -> None:
    """Make sure that a series has the UIDs by which a result refers to it, that of its coordinates among them.

    Args:
        series: The series.
        what: The result, with its article.

    Raises:
        DataError: If one is missing.
    """
    header = series.header(0)
    if missing := [name for name in _UIDS if not text_of(header, name)]:
        problem = f"has no {', '.join(missing)}, by which {what} would refer to it"
        raise DataError("A mask cannot be written:", [Fault(problem, series.where, _REMEDY)])


@contextmanager
def writing(path: Path, series: Series, what: str) -> Iterator[Path]:
    """Where to write an object first, in place of its own path, into which it is moved as a whole.

    Args:
        path: Its own path.
        series: What it is of.
        what: The object, with its article.

    Raises:
        DataError: If it cannot be made of what the headers of the series hold. What pydicom and highdicom say of that
            may quote values of tags, and is not repeated.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with quiet(), written_beside(path) as partial:
            yield partial
    except (FewlabelError, MemoryError):
        raise
    except Exception as error:
        if is_disk_full(error):
            raise
        problem = f"{what} cannot be made of what its headers hold ({type(error).__name__})"
        raise DataError("A mask cannot be written:", [Fault(problem, series.where, _REMEDY)]) from None
