"""Splits by subject, and the label budgets drawn from them: made once, stored, shared by every method."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.data.catalog import Catalog
from fewlabel.data.named_splits import NAMED

PARTS = ("pretrain", "train", "validation", "test")
#: With fewer labelled subjects every one of them trains: none is left to validate or test on.
FEWEST_TO_SPLIT = 5


@dataclass(frozen=True)
class LabelDraw:
    """Whose labels a run may use, and whose it may validate on."""

    labelled: tuple[str, ...]
    validation: tuple[str, ...]


def make_split(
    catalog: Catalog,
    kind: str = "auto",
    seed: int = 0,
    *,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.1,
    pretrain_on_test_scans: bool = False,
) -> dict[str, Any]:
    """Assign every subject to its part or parts.

    Args:
        catalog: The data set.
        kind: ``auto`` (the data set's own test and validation parts if they have labels, else random), ``random``,
            ``chaitanya``, ``ssl4mis``, or a JSON file ``{"parts": {"train": […], "test": […], …}}``.
        seed: Of the random split.
        test_fraction: Share of labelled subjects for the test part.
        validation_fraction: Share of labelled subjects for the validation part.
        pretrain_on_test_scans: Whether unlabelled scans that the data set keeps for testing may enter pre-training.

    Returns:
        The content of ``split.json``: ``name``, ``parts`` (``train``: whose labels may be used; ``pretrain``: whose
        images may enter pre-training; ``validation``; ``test``), ``draws``, ``seed`` and ``notes``.

    Raises:
        DataError: If a subject is in parts that must not meet, unknown, or a part that is needed is empty.
        SettingsError: If the kind is unknown.
    """
    if kind in NAMED:
        split = _named(catalog, kind)
    elif kind in {"auto", "random"}:
        fractions = (test_fraction, validation_fraction)
        split = _drawn(catalog, seed, fractions, own=kind == "auto", scans=pretrain_on_test_scans)
    elif kind.lower().endswith(".json"):
        split = _from_file(catalog, Path(kind))
    else:
        known = ["auto", "random", *NAMED]
        near = difflib.get_close_matches(kind, known, n=1)
        remedy = f"did you mean {near[0]}? " if near else ""
        fault = Fault("unknown split", repr(kind), "split", f"{remedy}known: {', '.join(known)}, or a .json file")
        raise SettingsError("These settings are not valid:", [fault])
    faults = overlap_faults(split["parts"])
    if not split["parts"]["train"] and catalog.labelled_subjects:
        faults.append(Fault("a split needs a labelled subject to train on", "none", f"split {split['name']}"))
    if faults:
        raise DataError("The split is not valid:", faults)
    return {**split, "seed": seed}


def overlap_faults(parts: Mapping[str, Sequence[str]]) -> list[Fault]:
    """A fault per pair of parts that share subjects they must not share; training and pre-training may."""
    faults = []
    for first, second in combinations(PARTS, 2):
        if {first, second} == {"pretrain", "train"}:
            continue
        shared = sorted(set(parts.get(first, ())) & set(parts.get(second, ())))
        if shared:
            rule = f"no subject may be in both {first} and {second}"
            faults.append(Fault(rule, ", ".join(shared), "split", "keep each in one part"))
    return faults


def draw_labels(
    split: Mapping[str, Any],
    labelled: int | None = None,
    draw: int = 0,
    seed: int = 0,
    subjects: Sequence[str] | None = None,
) -> LabelDraw:
    """The subjects whose labels a run may use.

    A named split's own draws are taken where it has them for that number; otherwise the train part is shuffled by
    (seed, draw) and its first M subjects taken, so that fewer are a subset of more.

    Args:
        split: Content of ``split.json``.
        labelled: How many (M); None for the whole train part.
        draw: Number of the draw, from 0.
        seed: Of random draws.
        subjects: Explicit ids instead.

    Raises:
        DataError: If a subject is not in the train part, or there are fewer than asked for.
        SettingsError: If a named split has no such draw, or both ids and another number are given.
    """
    parts = split["parts"]
    train, validation = tuple(parts["train"]), tuple(parts["validation"])
    if subjects is not None:
        chosen = tuple(dict.fromkeys(subjects))
        if labelled is not None and labelled != len(chosen):
            fault = Fault("give a number or subjects, not both", f"{labelled} and {len(chosen)} subjects", "labelled")
            raise SettingsError("These settings are not valid:", [fault])
        faults = [_not_in_train(subject, parts) for subject in chosen if subject not in train]
        if faults or not chosen:
            none = Fault("at least one labelled subject is needed", "none", "subjects")
            raise DataError("These subjects cannot be used as labelled:", faults or [none])
        return LabelDraw(chosen, validation)
    if labelled is None:
        return LabelDraw(train, validation)
    own = split.get("draws", {}).get(str(labelled))
    if own:
        if not 0 <= draw < len(own):
            rule = f"split {split.get('name')} has draws 0 to {len(own) - 1} of {labelled} labelled"
            raise SettingsError("These settings are not valid:", [Fault(rule, str(draw), "draw")])
        return LabelDraw(tuple(own[draw]["labelled"]), tuple(own[draw]["validation"]))
    if not 1 <= labelled <= len(train):
        fault = Fault(f"the train part has {len(train)} labelled subjects", f"{labelled} asked for", "labelled")
        raise DataError("Not enough labelled subjects:", [fault])
    return LabelDraw(tuple(_shuffled(train, seed, "labels", draw)[:labelled]), validation)


def _not_in_train(subject: str, parts: Mapping[str, Sequence[str]]) -> Fault:
    homes = [part for part in PARTS if subject in parts.get(part, ())]
    found = f"{subject}, which is in {' and '.join(homes)}" if homes else f"{subject}, which is in no part"
    near = difflib.get_close_matches(subject, parts["train"], n=1) if not homes else []
    return Fault(
        "a labelled subject must be in the train part",
        found,
        "subjects",
        f"did you mean {near[0]}?" if near else "choose among the train part of split.json",
    )


def _shuffled(subjects: Sequence[str], seed: int, *purpose: str | int) -> list[str]:
    # Imported here: the stream's module loads torch, which a check or an unchanged prepare can do without.
    from fewlabel.core.rng import numpy_stream

    ordered = sorted(subjects)
    return [ordered[int(index)] for index in numpy_stream(seed, "split", *purpose).permutation(len(ordered))]


def _drawn(catalog: Catalog, seed: int, fractions: tuple[float, float], *, own: bool, scans: bool) -> dict[str, Any]:
    reserved = _own_part(catalog, "test")
    labelled = set(catalog.labelled_subjects)
    given = sorted(reserved & labelled) if own else []
    chosen = _own_part(catalog, "validation") & labelled if own else set()
    mixed = sorted(set(given) & {case.subject for case in catalog.cases if case.part != "test"})
    mixed += sorted(chosen & {case.subject for case in catalog.cases if case.part != "validation"} - set(mixed))
    if mixed:
        rule = "no subject may have scans both inside and outside the data set's test or validation part"
        raise DataError("The split is not valid:", [Fault(rule, ", ".join(mixed), str(catalog.root))])
    notes: list[str] = []
    name = "own" if given else "random"
    pool = _shuffled(sorted(labelled - set(given) - chosen), seed, "parts")
    test: list[str] = given
    validation: list[str] = sorted(chosen)
    if len(pool) >= FEWEST_TO_SPLIT:
        wanted = 0 if given else _share(fractions[0], len(pool))
        test = given or pool[:wanted]
        count = 0 if chosen else _share(fractions[1], len(pool))
        validation, pool = validation or pool[wanted : wanted + count], pool[wanted + count :]
    else:
        idle = [word for word, part in (("validates", validation), ("tests", given)) if not part]
        notes.append(
            f"{len(pool)} labelled subjects, fewer than {FEWEST_TO_SPLIT}: all of them train"
            + (f", none {' or '.join(idle)}" if idle else "")
        )
    held = set(test) | set(validation)
    kept = reserved - labelled
    if kept and not scans:
        held |= kept
        notes.append(
            f"{len(kept)} unlabelled subjects are kept for testing by the data set: in no part "
            "(pretrain_on_test_scans=true lets their images enter pre-training)"
        )
    pretrain = [subject for subject in catalog.subjects if subject not in held]
    parts = {"pretrain": pretrain, "train": sorted(pool), "validation": sorted(validation), "test": sorted(test)}
    return {"name": name, "parts": parts, "draws": {}, "notes": notes}


def _own_part(catalog: Catalog, part: str) -> set[str]:
    return {case.subject for case in catalog.cases if case.part == part}


def _share(fraction: float, count: int) -> int:
    return 0 if fraction <= 0 else max(1, round(fraction * count))


def _named(catalog: Catalog, name: str) -> dict[str, Any]:
    split = NAMED[name]()
    present, labelled = set(catalog.subjects), set(catalog.labelled_subjects)
    wanted = {subject for part in split["parts"].values() for subject in part}
    # An unlabelled patient cannot train, validate or test; its images may still enter pre-training.
    parts = {
        part: [subject for subject in subjects if subject in (present if part == "pretrain" else labelled)]
        for part, subjects in split["parts"].items()
    }
    faults = [
        Fault(
            f"split {name} needs a labelled subject in its {part} part",
            f"none of its {len(split['parts'][part])} subjects, such as {split['parts'][part][0]}",
            str(catalog.root),
            "use split=random, or the data set the split was made for (ACDC)",
        )
        for part in ("train", "test")
        if not parts[part]
    ]
    if faults:
        raise DataError("The split does not fit the data set:", faults)
    train = set(parts["train"])
    draws = {
        count: [
            {"labelled": row["labelled"], "validation": [s for s in row["validation"] if s in labelled]}
            for row in rows
            if set(row["labelled"]) <= train
        ]
        for count, rows in split["draws"].items()
    }
    notes = []
    if wanted - present:
        notes.append(f"{len(wanted - present)} of the split's {len(wanted)} subjects are not in this data set")
    if present - wanted:
        notes.append(f"{len(present - wanted)} subjects are not in the split: in no part")
    return {"name": name, "parts": parts, "draws": {key: rows for key, rows in draws.items() if rows}, "notes": notes}


def _from_file(catalog: Catalog, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        given = {part: [str(subject) for subject in subjects] for part, subjects in content["parts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        rule = 'a split file holds {"parts": {"train": [...], "validation": [...], "test": [...]}}'
        raise DataError("The split cannot be read:", [Fault(rule, f"{error!r}", str(path))]) from error
    faults = [
        Fault("unknown part", repr(part), str(path), f"known: {', '.join(PARTS)}")
        for part in given
        if part not in PARTS
    ]
    labelled = set(catalog.labelled_subjects)
    for part, subjects in given.items():
        for subject in subjects:
            if subject not in catalog.subjects:
                near = difflib.get_close_matches(subject, catalog.subjects, n=1)
                remedy = f"did you mean {near[0]}?" if near else "see the subjects that check lists"
                faults.append(Fault(f"a subject of part {part} must be in the data set", subject, str(path), remedy))
            elif subject not in labelled and part != "pretrain":
                faults.append(Fault(f"a subject of part {part} must have a label", subject, str(path)))
    if faults:
        raise DataError("The split is not valid:", faults)
    parts = {part: list(dict.fromkeys(given.get(part, []))) for part in PARTS}
    if "pretrain" not in given:
        held = set(parts["validation"]) | set(parts["test"])
        unlabelled = [subject for subject in catalog.subjects if subject not in labelled]
        parts["pretrain"] = sorted({*parts["train"], *unlabelled} - held)
    draws = content.get("draws", {})
    _check_draws(draws, parts, path)
    return {"name": content.get("name", path.stem), "parts": parts, "draws": draws, "notes": []}


def _check_draws(draws: Any, parts: Mapping[str, Sequence[str]], path: Path) -> None:
    faults = []
    for count, rows in draws.items():
        for row in rows:
            if len(row.get("labelled", ())) != int(count) or not set(row["labelled"]) <= set(parts["train"]):
                rule = f"a draw of {count} names that many subjects of the train part"
                faults.append(Fault(rule, f"{row}", str(path)))
            if not set(row.get("validation", ())) <= set(parts["validation"]):
                faults.append(Fault("a draw validates on the validation part", f"{row}", str(path)))
    if faults:
        raise DataError("The split is not valid:", faults)
