"""DICOM: elements gone, doubled in odd ways, or of extreme values."""

from __future__ import annotations

import io
import warnings
from random import Random
from typing import Any

import pydicom

from fuzz.mutations import values

_NUMBERS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("NumberOfFrames", "InstanceNumber", "SeriesNumber", "AcquisitionNumber", "TemporalPositionIdentifier"),
)
_LISTS = ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "RescaleSlope",
          "RescaleIntercept", "SpacingBetweenSlices", "EchoTime", "MagneticFieldStrength")  # fmt: skip
_TEXTS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality",
          "PatientID", "PatientName", "SeriesDescription", "PhotometricInterpretation", "SpecificCharacterSet",
          "ImageType", "PatientPosition", "BodyPartExamined", "SegmentationType")  # fmt: skip
_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5",
             "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1.99", "1.2.3.4", "")  # fmt: skip


def dicom(content: bytes, rng: Random) -> tuple[bytes, str]:
    """One element of an object, or two; of nested ones too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = pydicom.dcmread(io.BytesIO(content))
        what = ", ".join(_changed(made, rng) for _ in range(rng.choice((1, 1, 2))))
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, made, enforce_file_format=False)
    return stream.getvalue(), what


def _changed(made: Any, rng: Random) -> str:
    done = rng.randrange(9)
    if done == 0:
        element = rng.choice(list(made.iterall()) or list(made))
        holder = _holder(made, element)
        del holder[element.tag]
        return f"without {element.keyword or element.tag}"
    if done == 1:
        syntax = rng.choice(_SYNTAXES)
        made.file_meta.TransferSyntaxUID = syntax
        return f"transfer syntax {syntax}"
    if done == 2:
        pixels = bytes(made.get("PixelData", b""))
        made.PixelData = rng.choice((b"", pixels[: len(pixels) // 2], pixels + bytes(10), rng.randbytes(64)))
        made["PixelData"].VR = rng.choice(("OW", "OB"))
        return "other pixels"
    if done <= 4:
        name = rng.choice(_NUMBERS)
        given: Any = rng.choice([whole for whole in values.WHOLE if 0 <= whole < 65536])
    elif done <= 6:
        name = rng.choice(_LISTS)
        numbers = [rng.choice(values.REAL) for _ in range(rng.choice((1, 2, 3, 3, 6, 6)))]
        given = [_decimal(number) for number in numbers]
    elif done == 7:
        name, given = rng.choice(_TEXTS), values.text(rng)[:64].replace("\\", "_").encode(errors="replace").decode()
    else:
        element = rng.choice([each for each in made.iterall() if each.VR not in ("SQ", "OW", "OB")])
        try:
            element.value = rng.choice((None, "", "x", 0, 65535, [1, 2, 3], "1e400"))
        except Exception:  # noqa: BLE001  # pydicom refuses some values before they are written
            element.value = None
        return f"{element.keyword or element.tag} = {element.value!r}"
    holders = [each for each in _all(made) if name in each] or [made]
    setattr(rng.choice(holders), name, given)
    return f"{name} = {given!r}"


def _decimal(number: float) -> str:
    return f"{number:.9g}"[:16]


def _all(made: Any) -> list[Any]:
    found = [made]
    for element in made:
        if element.VR == "SQ":
            for item in element.value:
                found.extend(_all(item))
    return found


def _holder(made: Any, element: Any) -> Any:
    return next(each for each in _all(made) if element.tag in each)
