"""What keeps the classes of a data set from being learnt, though each mask by itself can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fewlabel.core.errors import Fault
from fewlabel.data.label_values import LabelMap
from fewlabel.data.scan_inspection import CaseFacts


def class_faults(labels: LabelMap, facts: Sequence[CaseFacts], where: str) -> list[Fault]:
    """Masks that hold nothing at all, and classes of one name.

    Args:
        labels: The classes.
        facts: Of each scan.
        where: The data set.
    """
    faults = []
    masks = [set(fact.labels) - {0, labels.ignore} for fact in facts if fact.labels is not None]
    if masks and not any(masks):
        problem = f"all masks that can be read ({len(masks)}) hold background only"
        faults.append(Fault(problem, where, "Check that these are the masks, or leave them out of the data set"))
    names = Counter(labels.names)
    for name, count in names.items():
        if count > 1:
            values = ", ".join(
                str(value) for value, called in zip(labels.values, labels.names, strict=True) if called == name
            )
            remedy = "Give each class a name of its own, or one value in the masks"
            faults.append(Fault(f'label values {values} have the same name, "{name}"', where, remedy))
    return faults
