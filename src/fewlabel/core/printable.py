"""Text for a terminal or a page in which no name of a file writes anything but itself."""

from __future__ import annotations

import os
import unicodedata

#: Controls of the cursor, ends of lines and paragraphs, and halves of characters that UTF-8 does not know.
_CATEGORIES = frozenset({"Cc", "Zl", "Zp", "Cs"})
#: What turns the direction of the text that follows.
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, *, lines: bool = False) -> str:
    r"""The text with an escape in place of each character that is none to be seen: ``\n``, ``\x1b``, ``\u202e``.

    Bytes of names that are not UTF-8 become ``\xff`` and the like.

    Args:
        text: As names and the messages of others have it.
        lines: Whether it has lines of its own, which stay.

    Example:
        >>> print(printable("scan\nNo faults."))
        scan\nNo faults.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(each) if _is_unsafe(each) and not (lines and each == "\n") else each for each in text)


def significant(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, but without an exponent below a million.

    Example:
        >>> significant(0.01234), significant(999.7), significant(1234.5), significant(2.5e7)
        ('0.0123', '1000', '1234', '2.5e+07')
    """
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e6 else text


def is_utf8(text: str | os.PathLike[str]) -> bool:
    """Whether a name or path is valid UTF-8, as libraries that read files need it."""
    try:
        os.fspath(text).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in _CATEGORIES or character in _TURNS


def _escaped(character: str) -> str:
    code = ord(character)
    # How Python holds bytes of names that it cannot decode.
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
