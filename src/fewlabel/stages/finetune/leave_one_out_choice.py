"""Whether fine-tuning estimates what to expect of new patients by leaving labelled ones out, and how it says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.protocol.model_selection import Selection
from fewlabel.protocol.splits import LabelDraw

Expect = Literal["auto", "always", "never"]
#: Key of the result in ``segmenter.json``.
KEY = "expected"
#: Most labelled patients that are left out unless it is asked for.
FEW = 4
NOTHING_KNOWN = (
    "With one labelled patient nothing can be known of its quality: look at the predictions on unlabelled scans in "
    "the report."
)


def choose_expectation(
    asked: Expect, draw: LabelDraw, selection: Selection, store: PreparedStore, known: Sequence[str]
) -> bool:
    """Whether each labelled patient is segmented by a network of the others.

    Args:
        asked: The setting.
        draw: Labelled and validation patients.
        selection: How the weights are selected; where it leaves patients out anyhow, it costs nothing more.
        store: The prepared data.
        known: Subjects whose labels the encoder has seen.

    Raises:
        SettingsError: If it is asked for with one patient, or a left-out one has lent its labels to the encoder.
    """
    labelled = len(draw.labelled)
    if asked == "auto":
        few = 2 <= labelled <= FEW and nothing_else_tells(store, draw)
        return not known and (few or selection == "leave_one_out")
    if asked == "never":
        return False
    faults = []
    remedy = "Use expect=never, or auto"
    if labelled < 2:
        problem = f"needs at least two labelled patients to leave one out, not {labelled}"
        faults.append(Fault(problem, "expect", remedy))
    if known:
        problem = f"cannot leave patients out whose labels the encoder learnt from: {', '.join(known)}"
        faults.append(Fault(problem, "expect", remedy))
    if faults:
        raise SettingsError("What to expect cannot be estimated:", faults)
    return True


def choose_expectation_again(
    asked: Expect, selection: Selection, can_leave_out: Sequence[str], start: str
) -> tuple[str, ...]:
    """The patients to score where training goes on from a segmenter.

    Args:
        asked: The setting.
        selection: How the weights are selected: where validation tells, auto scores none.
        can_leave_out: Patients for whom there are weights that never met their labels.
        start: The segmenter, for the message.

    Raises:
        SettingsError: If it is asked for and there are no such patients.
    """
    if asked == "never" or (asked == "auto" and selection == "held_out"):
        return ()
    if asked == "always" and not can_leave_out:
        problem = f"{start} has met the labels of every patient and kept no network that left one out"
        raise SettingsError("What to expect cannot be estimated:", [Fault(problem, "expect", "Use expect=auto")])
    return tuple(can_leave_out)


def nothing_else_tells(store: PreparedStore, draw: LabelDraw) -> bool:
    """Whether no scan of the test part or for validation has a label."""
    parts = store.split["parts"]
    others = {*parts.get("test", ()), *parts.get("validation", ()), *draw.validation} - set(draw.labelled)
    return not any(case.label is not None and case.subject in others for case in store.cases)


def expectation_lines(expected: Mapping[str, Any], *, control: bool = False) -> list[str]:
    """Two lines for the user, or one for a control.

    Args:
        expected: As in ``segmenter.json``.
        control: Whether it is that of a control.
    """
    dice, far = expected["mean"]["dice"], expected["mean"]["hd95_mm"]
    mm = "" if far["mean"] is None else f" and an HD95 of about {far['mean']:.1f} mm"
    reached = f"a Dice of about {dice['mean']:.2f} (lowest patient {dice['low']:.2f}){mm}"
    if control:
        return [f"Of the control, in the same way: {reached}."]
    count = len(expected["subjects"])
    if expected.get("again"):
        met = "1 patient" if count == 1 else f"{count} patients"
        return [f"Expect {reached};", f"from {met} whose labels the network that segments them never met."]
    note = " The length of the training was chosen on them too." if expected["length_chosen_on_them"] else ""
    return [
        f"Expect {reached};",
        f"from {count} patients left out in turn, each trained on {count - 1}: a little pessimistic.{note}",
    ]
