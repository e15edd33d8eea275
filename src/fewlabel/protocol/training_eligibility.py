"""What a training may learn from: slices of all parts but the test part, and the labels of its draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.suggestions import did_you_mean
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
    remedy = "Add labelled=M, or leave out draw" if subjects is None else "Leave out subjects, or draw"
    return [Fault(f"draw={draw} among {among} has no effect", f"{where}draw", remedy)]


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
        Fault(f'the split has no part "{part}"', "parts", did_you_mean(part, known))
        for part in parts
        if part not in known
    ]
    if "test" in parts:
        faults.append(Fault("test scans must not be trained on", "parts", "Leave out test"))
    if faults:
        raise DataError("These parts cannot be trained on:", faults)
    subjects = sorted({subject for part in parts for subject in known[part]} - set(known.get("test", [])))
    indices = store.slices_of(subjects)
    if len(indices) < 2:
        problem = f"pre-training needs at least two slices, not {len(indices)}"
        fault = Fault(problem, f"parts {', '.join(parts)}", "Name other parts")
        raise DataError("There is nothing to train on:", [fault])
    return indices


def unlabelled_slices(store: PreparedStore, met: Iterable[str], labelled: Sequence[str]) -> NDArray[np.int64]:
    """Store indices of the slices that a training learns from without a mask.

    They are those of all subjects but the labelled ones, whether or not they have masks, and those of the labelled
    ones that nobody annotated: the rest of a partly annotated scan, and scans without a mask, such as the other frames
    of a cine.

    Args:
        store: Prepared store.
        met: Subjects whose images may be met.
        labelled: Subjects whose labels are learnt from.
    """
    bare = ~store.slices["labelled"].to_numpy(dtype=bool)
    own = store.slices_of(list(labelled))
    return np.union1d(store.slices_of(sorted(set(met) - set(labelled))), own[bare[own]])


def labels_of_encoder(
    encoder: Artifact | None, draw: Sequence[str] | None, *, rule: str, remedy: str
) -> tuple[str, ...]:
    """The subjects whose labels an encoder learnt from: they count as labels of all that is trained from it.

    Args:
        encoder: None learnt from none.
        draw: The subjects whose labels may be learnt from; None where none are.
        rule: What the draw demands of the encoder: how the message begins.
        remedy: What to do otherwise, as of a fault.

    Raises:
        SettingsError: If it learnt from labels that the draw does not have.
    """
    if encoder is None:
        return ()
    known: list[str] = encoder.json("encoder.json").get("labelled_subjects", [])
    beyond = [subject for subject in known if draw is not None and subject not in draw]
    if beyond:
        fault = Fault(f"{rule}, but {encoder.folder} also learnt from {', '.join(beyond)}", remedy=remedy)
        raise SettingsError("Labels would leak:", [fault])
    return tuple(known)
