"""What somebody may have meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str = "", cutoff: float = 0.5) -> str:
    """A question with the nearest known word, or all known words if none is near.

    Args:
        word: What was given; upper and lower case count for nothing.
        known: The words that would do.
        otherwise: What to say where none is near; by default all of them.
        cutoff: How near is near, from 0 to 1, as in :func:`difflib.get_close_matches`.

    Example:
        >>> did_you_mean("learnrate", ["learning_rate", "steps"])
        'Did you mean learning_rate?'
        >>> did_you_mean("x", ["learning_rate", "steps"])
        'Choose from learning_rate, steps'
    """
    words = {other.lower(): other for other in known}
    near = difflib.get_close_matches(word.lower(), words, n=1, cutoff=cutoff)
    if near:
        return f"Did you mean {words[near[0]]}?"
    return otherwise or f"Choose from {', '.join(words.values())}"
