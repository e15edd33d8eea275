"""Which meta labels guide a contrast of slices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import Names
from fewlabel.data.meta_advice import MOST_MISSING
from fewlabel.methods.base import DataFacts

#: Labels taken by ``auto``, where most slices have them; ``quarter`` is that of the frames of a cine.
AUTOMATIC = ("patient", "position", "phase", "quarter")


def _one_name(value: Any) -> Any:
    """A single label given without brackets, as a list of one."""
    return (value,) if isinstance(value, str) and value != "auto" else value


#: The setting of which meta labels guide: names, one name, or ``auto``.
Labels = Annotated[Literal["auto"] | Names, BeforeValidator(_one_name)]


def choose_labels(
    wanted: Literal["auto"] | tuple[str, ...],
    automatic: tuple[str, ...],
    facts: DataFacts,
    faults: list[Fault],
    title: str,
) -> tuple[str, ...]:
    """The meta labels to use; what is wrong with them goes to ``faults``.

    Args:
        wanted: Labels by name, or ``auto``.
        automatic: Labels taken by ``auto`` where half of the slices or more have one, of at least 2 classes.
        facts: What is known of the data.
        faults: Receives what is wrong.
        title: Name of the method, for messages.
    """
    usable = [name for name, classes in facts.meta_labels.items() if classes >= 2]
    listed = ", ".join(f"{name} ({_classes(count)})" for name, count in facts.meta_labels.items())
    remedy = f"Choose from {listed}, or pre-train with method=simclr" if listed else "Pre-train with method=simclr"
    if wanted == "auto":
        labels = tuple(name for name in automatic if name in usable and facts.missing.get(name, 0) <= MOST_MISSING)
        if not labels:
            problem = f"{title} needs a meta label with at least 2 classes, and none of {', '.join(automatic)} is one"
            faults.append(Fault(problem, "method.labels", remedy))
        return labels
    for name in dict.fromkeys(wanted):
        if name not in facts.meta_labels:
            faults.append(Fault(f'the data set has no meta label "{name}"', "method.labels", remedy))
        elif name not in usable:
            faults.append(Fault(f'the meta label "{name}" must have at least 2 classes', "method.labels", remedy))
    return tuple(dict.fromkeys(wanted))


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"
