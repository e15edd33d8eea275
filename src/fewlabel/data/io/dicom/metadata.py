"""What the tags of a DICOM series say of how it was scanned, as columns of a catalog; nothing of who was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fewlabel.data.catalog import Column, Value
from fewlabel.data.io.dicom.quiet_pydicom import quiet
from fewlabel.data.io.dicom.series import Series
from fewlabel.data.io.dicom.splitting import normal_of
from fewlabel.data.io.dicom.tags import number_of, text_of

#: Parts of a movement, as values of the column ``phase``.
PARTS = 4
#: Within so many degrees of a plane of the body, slices are called by it.
_OBLIQUE = 30.0
_PLANES = ("sagittal", "coronal", "axial")
_NO_CONTRAST = frozenset({"", "none", "no", "n", "without"})
COLUMNS = (
    Column("modality", "categorical", "Modality"),
    Column("scanner", "categorical", "Manufacturer, ManufacturerModelName"),
    Column("field_strength", "continuous", "MagneticFieldStrength"),
    Column("sequence", "categorical", "SeriesDescription, ProtocolName or ScanningSequence"),
    Column("body_part", "categorical", "BodyPartExamined"),
    Column("contrast", "categorical", "ContrastBolusAgent"),
    Column("plane", "categorical", "ImageOrientationPatient"),
    Column("patient_position", "categorical", "PatientPosition"),
    Column("phase", "ordinal", "quarter of the volumes of a series in the order of their times"),
    Column("echo_time", "continuous", "EchoTime, of series with several"),
    Column("b_value", "continuous", "DiffusionBValue, of series with several"),
    Column("image_type", "categorical", "ImageType, of series with several"),
)


@quiet()
def metadata_of(series: Series, header: Any, nameless: Callable[[str], str]) -> dict[str, Value]:
    """A value for each of :data:`COLUMNS`; None where nothing says it.

    Args:
        series: The volume.
        header: Of its first slice.
        nameless: Takes a text, and gives what of it names nobody.
    """

    def text(*names: str) -> str | None:
        parts = [nameless(text_of(header, name).replace("\\", " ")) for name in names]
        return " ".join(filter(None, parts)) or None

    field = number_of(header, "MagneticFieldStrength")
    marks = series.part.marks
    return {
        "modality": text("Modality"),
        "scanner": text("Manufacturer", "ManufacturerModelName"),
        # Some write gauss.
        "field_strength": None if field is None else round(field / (1e4 if field > 100 else 1), 2),
        "sequence": series.head.description or text("ScanningSequence", "SequenceVariant"),
        "body_part": _lower(text("BodyPartExamined")),
        "contrast": _contrast(header),
        "plane": plane_of(series),
        "patient_position": text("PatientPosition"),
        "phase": _phase(series),
        "echo_time": _number(marks, "echo time"),
        "b_value": _number(marks, "b-value"),
        "image_type": _image_type(marks),
    }


def plane_of(series: Series) -> str | None:
    """Plane of the body that the slices lie in, or ``oblique``; None where nothing says it."""
    first = series.planes[0]
    if first.orientation is None:
        return None
    normal = np.abs(normal_of(first))
    axis = int(normal.argmax())
    return _PLANES[axis] if normal[axis] >= np.cos(np.radians(_OBLIQUE)) else "oblique"


def _phase(series: Series) -> int | None:
    """Quarter of the movement, from 0, of a volume that is one of several in time."""
    rank = series.part.marks.get("phase", series.part.marks.get("time point"))
    if series.count < 2 or rank is None:
        return None
    return min(PARTS - 1, (series.number - 1) * PARTS // series.count)


def _contrast(header: Any) -> str | None:
    if "ContrastBolusAgent" not in header:
        return None
    return "no" if text_of(header, "ContrastBolusAgent").casefold() in _NO_CONTRAST else "yes"


def _number(marks: Mapping[str, Any], name: str) -> float | None:
    value = marks.get(name)
    try:
        return float(value[0]) if isinstance(value, tuple) and value else None
    except ValueError:
        return None


def _image_type(marks: Mapping[str, Any]) -> str | None:
    value = marks.get("image type")
    return " ".join(filter(None, value)) or None if isinstance(value, tuple) else None


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()
