"""Numbers and names as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fewlabel.reporting.figures.scores import Estimate

DASH = "–"
_INITIALISATION = {
    "pretrained encoder": "pre-trained with {method}",
    "frozen encoder": "frozen encoder, pre-trained with {method}",
    "scratch": "from scratch",
}


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A number with a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    rounded = round(value, digits) + 0.0  # no minus zero
    return f"{rounded:{'+' if sign else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def between(low: float | None, high: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """An interval, ``0.65 to 0.77``; a dash where it is unknown."""
    if low is None or high is None:
        return DASH
    return f"{number(low, digits, sign=sign)} to {number(high, digits, sign=sign)}"


def estimate(record: Mapping[str, Any]) -> Estimate:
    """Mean and interval of an entry of ``summary.json``; NaN where there is no value."""
    mean = record.get("mean")
    return Estimate(math.nan if mean is None else float(mean), record.get("low"), record.get("high"))


def interval_name(summary: Mapping[str, Any]) -> str:
    """``95 % interval``, with the coverage that a ``summary.json`` was made with."""
    return f"{100 * float(summary.get('protocol', {}).get('confidence', 0.95)):g} % interval"


def count(number_of: int, thing: str, things: str = "") -> str:
    """``1 slice``, ``12 slices``."""
    return f"{number_of} {thing if number_of == 1 else things or thing + 's'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """``a, b and c``; beyond ``most`` the first ones and how many more."""
    shown = list(names)
    if len(shown) > most:
        return f"{', '.join(shown[:most])} and {len(shown) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def p_value(value: float | None) -> str:
    """``0.031``, ``< 0.001`` or a dash."""
    if value is None:
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def arm_name(initialisation: str, method: str) -> str:
    """What an arm is called: how its network began.

    Args:
        initialisation: As in ``segmenter.json``.
        method: Pre-training method of the encoder; empty if unknown.
    """
    known = _INITIALISATION.get(initialisation, initialisation or "model")
    return known.format(method=method or "an unknown method")


def percent(share: float | None, digits: int = 0) -> str:
    """``12 %``; a dash where there is none."""
    return DASH if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f} %"
