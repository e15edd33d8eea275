"""Whether text is a whole number."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"-?[0-9]{1,18}")


def is_whole_number(text: str) -> bool:
    """Whether :func:`int` makes a number of it that fits into 64 bits; blanks around it do not count.

    :meth:`str.isdigit` says yes to superscripts, and to more digits than :func:`int` takes.

    Example:
        >>> [is_whole_number(text) for text in ("12", " -3 ", "²", "--5", "9" * 5000, "")]
        [True, True, False, False, False, False]
    """
    return _NUMBER.fullmatch(text.strip()) is not None
