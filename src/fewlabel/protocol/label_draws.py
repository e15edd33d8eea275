"""What a training may learn from: slices of parts that are no test, and labels that are its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.protocol.splits import LabelDraw, draw_labels


def draw_faults(labelled: int | None, draw: int, subjects: Sequence[str] | None, where: str = "") -> list[Fault]:
    """A fault where the settings name a draw but not how many patients to draw, so that it would change nothing.

    Args:
        labelled: The setting; None for all.
        draw: The setting.
        subjects: The setting.
        where: Prefix of keys in messages.
    """
    if draw == 0 or (labelled is not None and subjects is None):
        return []
    among = "all labelled patients" if subjects is None else "patients given by subjects"
    remedy = "add labelled=M, or leave out draw" if subjects is None else "leave out subjects, or draw"
    rule = "a draw needs the number of patients to draw"
    return [Fault.of(rule, f"draw={draw} among {among}", f"{where}draw", remedy)]


def drawn_labels(
    store: PreparedStore, labelled: int | None, draw: int, subjects: Sequence[str] | None = None
) -> LabelDraw:
    """Whose labels a training may use. A draw belongs to the split: trainings of all seeds share its patients.

    Raises:
        DataError: If a subject is not in the train part, or there are fewer than asked for.
        SettingsError: If the split has no such draw.
    """
    return draw_labels(store.split, labelled, draw, int(store.split.get("seed", 0)), subjects)


def training_slices(store: PreparedStore, parts: tuple[str, ...]) -> NDArray[np.int64]:
    """Store indices of all slices of these parts of the split.

    Raises:
        DataError: If a part is unknown, empty or the test part.
    """
    known = store.split["parts"]
    faults = [
        Fault.of("a part of the split", repr(part), "parts", f"known: {', '.join(known)}")
        for part in parts
        if part not in known
    ]
    if "test" in parts:
        faults.append(Fault.of("test scans take part in no training", "test", "parts", "leave it out"))
    if faults:
        raise DataError("These parts cannot be trained on:", faults)
    subjects = sorted({subject for part in parts for subject in known[part]} - set(known.get("test", [])))
    indices = store.slices_of(subjects)
    if len(indices) < 2:
        fault = Fault.of(
            "pre-training needs at least two slices", str(len(indices)), f"parts {', '.join(parts)}", "name other parts"
        )
        raise DataError("There is nothing to train on:", [fault])
    return indices


def labels_of_encoder(encoder: Path | None, draw: Sequence[str] | None, *, rule: str, remedy: str) -> tuple[str, ...]:
    """The subjects whose labels an encoder has seen: they count as labels of whatever is trained on from it.

    Args:
        encoder: Encoder folder; None has seen none.
        draw: The subjects whose labels may be learnt from; None where none are.
        rule: What the draw demands of the encoder, for the message.
        remedy: What to do otherwise.

    Raises:
        SettingsError: If it saw labels that the draw does not have.
    """
    if encoder is None:
        return ()
    seen: list[str] = read_json(encoder / "encoder.json").get("labelled_subjects", [])
    beyond = [subject for subject in seen if draw is not None and subject not in draw]
    if beyond:
        fault = Fault.of(rule, f"it also saw {', '.join(beyond)}", str(encoder), remedy)
        raise SettingsError("Labels would leak:", [fault])
    return tuple(seen)
