"""Durations as users write and read them: ``1h30m`` and ``1:30:00``."""

from __future__ import annotations

import re

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_PART = r"(?:(?P<{0}>\d+(?:\.\d*)?|\.\d+)\s*{0}\s*)?"
_DURATION = re.compile(r"\s*" + "".join(_PART.format(unit) for unit in _UNITS))


def parse_duration(text: str) -> float:
    """Seconds of ``2h``, ``1h30m``, ``45m``, ``90s`` or ``1.5h``.

    Raises:
        ValueError: If it is no such time, or not above 0; the message says how to write one.
    """
    match = _DURATION.fullmatch(text.lower())
    parts = {} if match is None else {unit: value for unit, value in match.groupdict().items() if value}
    if not parts:
        plain = re.fullmatch(r"[-+]?[\d.]+", text.strip())
        hint = f"add its unit, e.g. {text.strip()}m" if plain else "e.g. 45m, 1h30m or 90s"
        raise ValueError(f"a time is hours, minutes or seconds with their units; {hint}")
    seconds = sum(float(value) * _UNITS[unit] for unit, value in parts.items())
    if seconds <= 0:
        raise ValueError("a time is above 0, e.g. 45m")
    return seconds


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
