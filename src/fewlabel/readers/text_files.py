"""Text files that people wrote, in whatever encoding their program chose."""

from __future__ import annotations

import codecs
from pathlib import Path

from fewlabel.core.errors import Fault, reason

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMES = {"utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "cp1252": "Windows-1252"}


def read_text(path: Path, faults: list[Fault], notes: list[str] | None = None) -> str:
    """The text of a file; empty if it cannot be read, and why goes to ``faults``.

    UTF-8 and, by their marks, UTF-16 and UTF-32 are certain. Without a mark UTF-16 is recognised by its zero bytes,
    and text that is not UTF-8 is taken as Windows-1252, which most programs of Western Windows write.

    Args:
        path: The file.
        faults: Takes why it cannot be read.
        notes: Takes which encoding was guessed; without it none is.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        faults.append(Fault(f"{path} cannot be read ({reason(error)})"))
        return ""
    encoding = encoding_of(data)
    if encoding in _NAMES:
        if notes is None:
            encoding = "utf-8"
        else:
            notes.append(f"{path.name} is not UTF-8 text: it is read as {_NAMES[encoding]}")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].count(b"\n")
        byte = f"0x{data[error.start]:02x}"
        problem = f"must be UTF-8 text, but has the byte {byte}"
        if encoding == "cp1252":
            problem = f"is neither UTF-8 nor Windows-1252 text: it has the byte {byte}"
        faults.append(Fault(problem, f"{path}, line {line}", "Save it as UTF-8"))
        return ""
    if "\0" in text:
        line = 1 + text[: text.index("\0")].count("\n")
        faults.append(Fault("has zero bytes, as no text has", f"{path}, line {line}", "Save it as UTF-8 text"))
        return ""
    return text


def encoding_of(data: bytes) -> str:
    """The encoding of a text by its mark, else by its bytes.

    Args:
        data: The whole text, or its beginning.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    even, odd = data[0:2000:2], data[1:2000:2]
    # In UTF-16 every second byte of Western text is zero, and no byte of other text is.
    if len(odd) > 1 and odd.count(0) > 0.5 * len(odd) and even.count(0) < 0.1 * len(even):
        return "utf-16-le"
    if len(even) > 1 and even.count(0) > 0.5 * len(even) and odd.count(0) < 0.1 * len(odd):
        return "utf-16-be"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        # The beginning of a text may end within a character.
        if error.end < len(data) or len(data) - error.start > 3 or error.reason != "unexpected end of data":
            return "cp1252"
    return "utf-8"
