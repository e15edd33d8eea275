"""Whether a round of ``learn`` was worth it, as far as patients can tell whose labels the networks never met."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from statistics import fmean
from typing import Any, Literal

from fewlabel.pipelines.model_or_control import MARGIN

_NOBODY = "none was left out before"


def round_verdict(
    continued: Mapping[str, Any],
    *,
    take: Literal["better", "always"] = "better",
    empty: Collection[str] = (),
    validating: Collection[str] = (),
) -> dict[str, Any]:
    """Mean Dice before and after, of equal scans and masks, and whether the round is taken.

    Validation tells, where there is one; else the patients who were left out before and after. A patient whose first
    mask came in this round tells how good the network was before, but not what the round was worth.

    Args:
        continued: Of the ``segmenter.json`` of the round.
        empty: Subjects on whose masks there is nothing: by themselves they tell nothing.
        validating: Subjects who validate.
        take: ``better``: not taken if mean Dice fell by more than the margin, unless as many patients of those left out
            gained as lost: then the mean hangs on one of them, and the round has learnt from more labels. ``always``:
            taken.

    Returns:
        ``by``: ``validation`` or ``left-out patients``, None where nothing tells; ``before`` and ``after``; ``taken``;
        ``reason``; ``lines`` for the user.
    """
    by, before, after, patients = _told(continued, empty, validating)
    lines = [
        f"{subject}, whose first mask came now, had a Dice of {dice:.3f} before."
        for subject, dice in continued["unseen"].items()
    ]
    if by is None:
        unfit = "none who has a structure was left out before" if continued["left_out"]["before"] else _NOBODY
        reason = f"nothing tells what it was worth: no patient validates, and {unfit}"
        return _verdict(None, None, None, reason, [*lines, f"The round is taken, but {reason}."], taken=True)
    lines += [f"{subject}: Dice {old:.3f} before, {new:.3f} after." for subject, (old, new) in patients.items()]
    reason = f"mean Dice {before:.3f} before and {after:.3f} after, by {by}"
    worse = after < before - MARGIN
    gained, lost = (sum(sign * (new - old) > 0 for old, new in patients.values()) for sign in (1, -1))
    disputed = worse and gained >= lost > 0
    taken = not worse or disputed or take == "always"
    if worse and not taken:
        lines.append(f"The round is NOT taken: it is worse ({reason}). What was used before is still used.")
        lines.append("To use it all the same: fewlabel learn RUN use=NUMBER.")
    elif disputed:
        lines.append(f"The round is taken, though its mean is lower ({reason}):")
        lines.append(f"{gained} gained and {lost} lost, which tells nothing, and it has learnt from more labels.")
        lines.append("To go back: fewlabel learn RUN use=NUMBER, 0 for what train left.")
    elif worse:
        lines.append(f"The round is worse ({reason}), and taken as take=always says.")
    else:
        lines.append(f"The round is taken: {reason}.")
    return _verdict(by, before, after, reason, lines, taken=taken)


def _told(
    continued: Mapping[str, Any], empty: Collection[str], validating: Collection[str]
) -> tuple[str | None, float, float, dict[str, tuple[float, float]]]:
    validation, left_out = continued["validation"], continued["left_out"]
    fit = not validating or not all(name in empty for name in validating)
    if fit and validation["before"] is not None and validation["after"] is not None:
        return "validation", float(validation["before"]), float(validation["after"]), {}
    if all(name in empty for name in left_out["before"]):
        return None, 0.0, 0.0, {}
    patients = {name: (float(old), float(left_out["after"][name])) for name, old in left_out["before"].items()}
    before, after = (fmean(values) for values in zip(*patients.values(), strict=True))
    return "left-out patients", before, after, patients


def _verdict(
    by: str | None, before: float | None, after: float | None, reason: str, lines: list[str], *, taken: bool
) -> dict[str, Any]:
    return {"by": by, "before": before, "after": after, "taken": taken, "reason": reason, "lines": lines}
