"""How the weights that a fine-tuning leaves are selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.progress import say
from fewlabel.protocol.splits import LabelDraw

Selection = Literal["none", "held_out", "leave_one_out"]
Validation = Literal["auto", Selection]


def choose_selection(asked: Validation, draw: LabelDraw, encoder_subjects: Sequence[str]) -> Selection:
    """The selection asked for, or the fair one for the draw.

    Args:
        asked: The setting.
        draw: Labelled and validation patients.
        encoder_subjects: Subjects whose labels the encoder learnt from.

    Raises:
        SettingsError: If patients for it are missing, or the encoder learnt from labels of a left-out one.
    """
    labelled = len(draw.labelled)
    selection: Selection
    if asked != "auto":
        selection = asked
    elif labelled <= 2:
        selection = "none"
    elif draw.validation:
        selection = "held_out"
    else:
        selection = "none" if encoder_subjects else "leave_one_out"
    faults = []
    if selection == "held_out" and not draw.validation:
        faults.append(Fault("held-out selection needs validation patients, but the split has none", "validation"))
    if selection == "leave_one_out" and labelled < 2:
        faults.append(Fault(f"leave-one-out needs two labelled patients, not {labelled}", "validation"))
    if selection == "leave_one_out" and encoder_subjects:
        problem = (
            "the labels of a left-out patient must not be known, but the encoder learnt from those of "
            f"{', '.join(encoder_subjects)}"
        )
        faults.append(Fault(problem, "validation"))
    if faults:
        raise SettingsError("The model cannot be selected this way; use validation=none:", faults)
    return selection


def say_selection(selection: Selection, draw: LabelDraw, steps: int) -> None:
    """Tell the user how the weights of a run are selected.

    Args:
        selection: The selection.
        draw: Labelled and validation patients.
        steps: Length of the run.
    """
    say(
        {
            "none": f"No validation: all {steps} steps, last weights.",
            "held_out": f"Validation on {', '.join(draw.validation)}: best weights are kept.",
            "leave_one_out": f"Leave one of {len(draw.labelled)} patients out to choose the length, then train on all.",
        }[selection]
    )
