"""Tags of DICOM files, read one by one: a value that is missing, empty or malformed is no error."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fewlabel.core.memory_limit import too_large
from fewlabel.data.io.dicom.quiet_pydicom import pydicom_library, quiet

#: Transfer syntax of files that are deflated as a whole.
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_BEGINNING, _AT_ONCE = 1 << 12, 1 << 22


def read_dataset(file: Path | BinaryIO, *, pixels: bool = False, tags: tuple[str, ...] | None = None) -> Any:
    """A file as pydicom reads it.

    Args:
        file: The file; its preamble may be missing. An open one is left where the pixels begin, if it has any.
        pixels: Whether to read the pixels too.
        tags: Names of what to read, sequences with all that is in them; None for all.

    Raises:
        DataError: If pydicom is not installed.
        ValueError: If it is no DICOM file, or is damaged.
        OSError: If it cannot be read.
    """
    if isinstance(file, Path):
        with file.open("rb") as stream:
            return read_dataset(stream, pixels=pixels, tags=tags)
    library = pydicom_library()
    with quiet():
        try:
            _check_unpacked_size(file, library)
            dataset = library.dcmread(file, stop_before_pixels=not pixels, force=True, specific_tags=tags)
            known = bool(text_of(dataset, "Modality") or text_of(dataset, "SOPClassUID"))
        except (OSError, _TooLargeError):
            raise
        except Exception as error:  # damage makes pydicom raise anything, and none of it names a cause
            raise ValueError(f"its header is damaged ({type(error).__name__})") from error
    if not known:
        raise ValueError("it says neither its modality nor its kind of object")
    return dataset


class _TooLargeError(ValueError):
    """A file that is packed as a whole needs more memory than there is."""


def _check_unpacked_size(stream: BinaryIO, library: Any) -> None:
    """Refuse a file that is deflated as a whole and would not fit into memory: pydicom unpacks it before all else.

    Raises:
        ValueError: If so.
    """
    deflated = _DEFLATED in stream.read(_BEGINNING)
    stream.seek(0)
    if not deflated:
        return
    # Preamble, mark and the length of the group that says how the rest is packed.
    start = 144 + int(library.filereader.read_file_meta_info(stream.name).FileMetaInformationGroupLength)
    stream.seek(start)
    unpack, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while block := stream.read(_BEGINNING):
        while block and not unpack.eof:
            size += len(unpack.decompress(block, _AT_ONCE))
            block = unpack.unconsumed_tail
        if problem := too_large(2 * size):
            raise _TooLargeError(f"it is deflated and {problem}")
    stream.seek(0)


def elements_of(dataset: Any) -> Iterator[Any]:
    """The elements of a dataset, without those that pydicom cannot make sense of."""
    for tag in list(dataset.keys()):
        try:
            yield dataset[tag]
        except Exception:  # noqa: BLE001  # a malformed value makes pydicom raise anything, and it means nothing
            continue


def texts_of(dataset: Any, name: str) -> tuple[str, ...]:
    """The values of a tag as texts; none where it is missing."""
    try:
        value = dataset.get(name)
    except (ValueError, TypeError, LookupError, AttributeError):
        return ()
    if value is None or value == "":
        return ()
    several = not isinstance(value, (str, bytes)) and hasattr(value, "__len__") and not hasattr(value, "components")
    return tuple(str(part).strip(" \0") for part in (value if several else (value,)))


def text_of(dataset: Any, name: str) -> str:
    """The value of a tag as text, several with a backslash between; empty where it is missing."""
    return "\\".join(texts_of(dataset, name))


def numbers_of(dataset: Any, name: str, count: int) -> tuple[float, ...] | None:
    """The numbers of a tag; None where it does not hold so many."""
    try:
        numbers = tuple(float(part) for part in texts_of(dataset, name))
    except ValueError:
        return None
    return numbers if len(numbers) == count else None


def number_of(dataset: Any, name: str) -> float | None:
    """The number of a tag; None where it holds none."""
    numbers = numbers_of(dataset, name, 1)
    return None if numbers is None else numbers[0]


def whole_of(dataset: Any, name: str) -> int | None:
    """The whole number of a tag; None where it holds none."""
    number = number_of(dataset, name)
    return None if number is None or not number.is_integer() else int(number)
