"""Raw values of masks as classes: what the data set declares, what its masks hold, and what the user says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fewlabel.core.errors import Fault
from fewlabel.data.catalog import Catalog
from fewlabel.data.mask_value_faults import MaskValues, is_jpeg, mask_value_faults
from fewlabel.data.scan_inspection import CaseFacts

#: Names of a label value that is neither class nor background.
IGNORE_NAMES = frozenset({"ignore", "ignored", "unlabelled", "unlabeled", "unannotated", "void"})
#: What the setting ``labels`` says of such a value.
IGNORE: Literal["ignore"] = "ignore"
MOST_CLASSES = 254
#: Raw value → the value that it stands for, or ``ignore``.
Meanings = Mapping[int, int | Literal["ignore"]]


def read_meanings(value: Any) -> Any:
    """The setting ``labels`` as users write it, such as ``{255: 1, 4: ignore}``: raw value → what it stands for.

    Args:
        value: Text with or without braces, or a mapping, whose keys may be text.

    Raises:
        ValueError: If text is no such list of pairs, or a key is no whole number.
    """
    if isinstance(value, str):
        inner = value.strip().removeprefix("{").removesuffix("}")
        pairs = [pair.partition(":") for pair in inner.split(",") if pair.strip()]
        value = {raw.strip(): meaning.strip() for raw, _, meaning in pairs}
    if not isinstance(value, Mapping):
        return value
    # On top of a recipe's mapping, text comes as a name.
    named = read_meanings(value["name"]) if isinstance(value.get("name"), str) else {}
    given = {key: meaning for key, meaning in value.items() if key != "name"}
    try:
        return {int(key): _meaning(meaning) for key, meaning in {**given, **named}.items()}
    except ValueError:
        raise ValueError("must map label values to label values or ignore, like {255: 1, 4: ignore}") from None


def _meaning(value: Any) -> Any:
    return value if value == IGNORE or not isinstance(value, str) else int(value)


@dataclass(frozen=True)
class LabelMap:
    """Raw label values as classes.

    Attributes:
        values: Raw value of each class, background first: what predictions write.
        names: Name of each class.
        ignore: Raw value left out of training and scoring, or None.
        voxels: Voxels of each class over all masks.
        aliases: Further raw values, and which of ``values``, or ``ignore``, each stands for.
        notes: What was assumed, one sentence each.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    ignore: int | None = None
    voxels: tuple[int, ...] = field(default=())
    aliases: Mapping[int, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def stands_for(self, raw: int) -> int:
        """The raw value that one is read as."""
        return self.aliases.get(raw, raw)


def label_map(
    catalog: Catalog, facts: Sequence[CaseFacts], meanings: Meanings | None = None
) -> tuple[LabelMap, list[Fault]]:
    """Classes from the values that masks hold.

    A class that the data set declares and no mask holds is none: it could be neither learnt nor scored. Where no scan
    has a mask, all that is declared is kept.

    Args:
        catalog: The data set.
        facts: Of each scan.
        meanings: What the user says: raw value → the declared value that it stands for, 0 for background, or
            ``ignore``; a value that stands for itself is a class.

    Returns:
        The classes, and a fault for each value that cannot be what it seems to be.
    """
    said = dict(meanings or {})
    named = catalog.label_names
    declared = {value: name for value, name in named.items() if name.lower() not in IGNORE_NAMES or value == 0}
    masks = [MaskValues(fact.case, fact.labels) for fact in facts if fact.labels is not None]
    counts: dict[int, int] = {}
    for mask in masks:
        for value, voxels in mask.counts.items():
            counts[value] = counts.get(value, 0) + voxels
    ignored = [value for value in named if value not in declared and value not in said]
    ignored += [value for value, meaning in said.items() if meaning == IGNORE]
    read_as = {value: value for value in counts if value not in ignored}
    read_as |= {value: int(meaning) for value, meaning in said.items() if meaning != IGNORE}
    wanted = {*(read_as[value] for value in counts if value in read_as), *(() if counts else declared)} - {0}
    aliases: dict[int, int] = {}
    values: list[int] = []
    totals: list[int] = []
    for meaning in (0, *sorted(wanted)):
        members = [value for value in counts if read_as.get(value) == meaning]
        # What predictions write: the value itself where masks hold it, else the commonest that stands for it.
        known = meaning in members or not members
        written = meaning if known else max(members, key=lambda value: (counts[value], -value))
        values.append(written)
        totals.append(sum(counts[value] for value in members))
        aliases |= {value: written for value in members if value != written}
    ignore = ignored[0] if ignored else None
    aliases |= dict.fromkeys(ignored[1:], ignored[0] if ignored else 0)
    classes = (0, *sorted(wanted))
    names = tuple(declared.get(value, "background" if value == 0 else f"label {value}") for value in classes)
    targets = {int(meaning) for meaning in said.values() if meaning != IGNORE}
    told = {value: declared.get(value, "") for value in {*declared, *targets} - {0}} if set(declared) - {0} else {}
    faults = mask_value_faults(masks, counts, {0, *said, *targets, *declared, *ignored}, told, str(catalog.root))
    if len(values) > MOST_CLASSES + 1 and not faults:
        most = max(masks, key=lambda mask: len(mask.counts))
        problem = (
            f"masks may hold up to {MOST_CLASSES} classes, not {len(values)} ({most.name} alone {len(most.counts)})"
        )
        remedy = "Where each object has a number of its own, such as a cell, write masks with one value for each kind"
        faults.append(Fault(problem, str(catalog.root), remedy))
    # A mask that cannot be read may hold what the others do not.
    unread = any(fact.labels is None and fact.case.label is not None for fact in facts)
    missing = {value: name for value, name in declared.items() if value and value not in classes and not unread}
    notes = [*_missing(missing), *_notes(classes, values, names, declared, said)] if counts and not faults else []
    if counts and not faults and (jpegs := sum(map(is_jpeg, masks))):
        notes.append(
            f"{jpegs} of {len(masks)} masks are JPEG pictures in black and white: each pixel is taken for the nearer"
        )
    unused = sorted(set(said) - set(counts))
    if unused and counts:
        notes.append(f"labels names {', '.join(map(str, unused))}, which no mask holds")
    return LabelMap(tuple(values), names, ignore, tuple(totals), aliases, tuple(notes)), faults


def _missing(named: Mapping[int, str]) -> list[str]:
    """A sentence on classes that no mask holds, if there are any."""
    if not named:
        return []
    shown = ", ".join(f"{value} ({name})" for value, name in sorted(named.items()))
    if len(named) == 1:
        return [f"no mask holds label {shown}, which is declared: it is neither learnt nor scored"]
    return [f"no mask holds labels {shown}, which are declared: they are neither learnt nor scored"]


def _notes(
    classes: Sequence[int],
    values: Sequence[int],
    names: Sequence[str],
    declared: Mapping[int, str],
    said: Meanings,
) -> list[str]:
    notes = [
        f"label {written} in masks stands for {meaning} ({name}); predictions write {written}"
        for meaning, written, name in zip(classes, values, names, strict=True)
        if meaning != written
    ]
    into: dict[str, list[int]] = {}
    for raw, meaning in said.items():
        what = "left out" if meaning == IGNORE else "background" if meaning == 0 else ""
        if what and raw != meaning:
            into.setdefault(what, []).append(raw)
    for what, raws in into.items():
        shown = ", ".join(map(str, sorted(raws)))
        notes.append(f"label {shown} in masks is {what}, as labels says")
    if not declared and list(values) == [0, 255]:
        notes.append("masks hold 0 and 255 only: 255 is the one class, and predictions write 255")
    return notes
