"""Who was scanned, guessed from case names where a data set does not say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_TOKEN = re.compile(
    r"(?P<subject>.+?)[_-](?P<token>"
    r"(?:frame|fr|phase|ph|time|t|tp|visit|vis|v|session|ses|scan|series|rep)[_-]?\d+"
    r"|ed|es|dia|sys|diastole|systole|baseline|followup|follow-up|pre|post)$",
    re.IGNORECASE,
)
_PHASES = {"ed": "ED", "dia": "ED", "diastole": "ED", "es": "ES", "sys": "ES", "systole": "ES"}


def guess_subjects(cases: Sequence[str]) -> dict[str, str]:
    """Case name → subject.

    A trailing frame, phase, visit or session token (``_frame01``, ``_ED``, ``-ses2``, ``_baseline`` …) is taken off
    every name that has one, as soon as it holds siblings apart somewhere in the data set: two cases that differ in
    such a token only. So two frames of one patient are one subject and can never be split; without siblings a name is
    its own subject.
    """
    matches = {case: _TOKEN.match(case) for case in cases}
    stems = Counter(match["subject"] for match in matches.values() if match)
    siblings = any(count > 1 for count in stems.values())
    return {case: match["subject"] if match and siblings else case for case, match in matches.items()}


def guess_phases(cases: Sequence[str]) -> dict[str, str | None]:
    """Case name → ``ED`` or ``ES`` where its last token says so (``_ED``, ``_systole`` …), else None."""
    matches = {case: _TOKEN.match(case) for case in cases}
    return {case: _PHASES.get(match["token"].lower()) if match else None for case, match in matches.items()}
