"""How well a path fits a reader's convention."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Match:
    """How well a path fits a reader's convention: a score in [0, 1] and the reasons for and against it."""

    score: float
    reasons: tuple[str, ...] = ()
