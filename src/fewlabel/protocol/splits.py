"""Splits by subject, and the label budgets drawn from them: made once, stored, shared by every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.suggestions import did_you_mean
from fewlabel.data.catalog import Catalog
from fewlabel.protocol import user_split_file
from fewlabel.protocol.acdc_splits import NAMED
from fewlabel.protocol.scribbles_in_splits import kind_faults, kind_notes

PARTS = user_split_file.PARTS
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
            ``chaitanya``, ``ssl4mis``, ``develop``, or a JSON file ``{"parts": {"train": […], "test": […], …},
            "draws": {"1": [{"labelled": […]}, …]}}``.
        seed: Of the random split.
        test_fraction: Share of labelled subjects for the test part.
        validation_fraction: Share of labelled subjects for the validation part.
        pretrain_on_test_scans: Whether unlabelled scans that the data set keeps for testing may enter pre-training.
            Parts are of whole subjects: without it a labelled subject with such a scan tests or validates, or is left
            out, as its scans cannot be separated later. A named split, and a file with a part ``pretrain``, say
            themselves who enters.

    Returns:
        The content of ``split.json``: ``name``, ``parts`` (``train``: whose labels may be used; ``pretrain``: whose
        images may enter pre-training; ``validation``; ``test``), ``draws``, ``seed`` and ``notes``.

    Raises:
        DataError: If a subject is in parts that must not meet, unknown, or a part that is needed is empty; if a part
            would mix scribbles with full labels; if a file has another shape.
        SettingsError: If the kind is unknown.
    """
    if kind in NAMED:
        split = _named(catalog, kind)
        split["notes"] += _unused(kind) if pretrain_on_test_scans else []
    elif kind in {"auto", "random"}:
        fractions = (test_fraction, validation_fraction)
        split = _drawn(catalog, seed, fractions, own=kind == "auto", scans=pretrain_on_test_scans)
    elif kind.lower().endswith(".json"):
        split = _from_file(catalog, Path(kind), scans=pretrain_on_test_scans)
    else:
        known = ["auto", "random", *NAMED]
        remedy = did_you_mean(kind, known, otherwise=f"Choose from {', '.join(known)}, or give a .json file")
        raise SettingsError("These settings are not valid:", [Fault(f'unknown split "{kind}"', "split", remedy)])
    faults = [*overlap_faults(split["parts"]), *kind_faults(catalog, split)]
    if not split["parts"]["train"] and catalog.labelled_subjects:
        remedy = "Give pretrain_on_test_scans=true to let subjects with unlabelled test scans train"
        remedy = remedy if _unlabelled_test(catalog) and not pretrain_on_test_scans else ""
        faults.append(Fault("there is no labelled subject to train on", f"split {split['name']}", remedy))
    if faults:
        raise DataError("The split is not valid:", faults)
    return {**split, "notes": [*split["notes"], *kind_notes(catalog, split)], "seed": seed}


def overlap_faults(parts: Mapping[str, Sequence[str]]) -> list[Fault]:
    """A fault per pair of parts that share subjects they must not share; training and pre-training may."""
    faults = []
    for first, second in combinations(PARTS, 2):
        if {first, second} == {"pretrain", "train"}:
            continue
        shared = sorted(set(parts.get(first, ())) & set(parts.get(second, ())))
        if shared:
            problem = f"some subjects are in both {first} and {second}: {', '.join(shared)}"
            faults.append(Fault(problem, "split", "Keep each in one part"))
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
        DataError: If a subject is not in the train part, there are fewer than asked for, or the data set lacks one of
            a named split's draw.
        SettingsError: If a named split has no such draw, or both ids and another number are given.
    """
    parts = split["parts"]
    train, validation = tuple(parts["train"]), tuple(parts["validation"])
    if subjects is not None:
        named = tuple(dict.fromkeys(subjects))
        if labelled is not None and labelled != len(named):
            fault = Fault(f"give a number ({labelled}) or subjects ({len(named)}), not both", "labelled")
            raise SettingsError("These settings are not valid:", [fault])
        faults = [_not_in_train(subject, parts) for subject in named if subject not in train]
        if faults or not named:
            none = Fault("at least one labelled subject is needed, but none is given", "subjects")
            raise DataError("These subjects cannot be used as labelled:", faults or [none])
        return LabelDraw(named, validation)
    if labelled is None:
        return LabelDraw(train, validation)
    own = split.get("draws", {}).get(str(labelled))
    if own:
        if not 0 <= draw < len(own):
            problem = f"split {split.get('name')} has draws 0 to {len(own) - 1} for labelled={labelled}, not {draw}"
            raise SettingsError("These settings are not valid:", [Fault(problem, "draw")])
        return _own_draw(split, own, labelled, draw)
    if not 1 <= labelled <= len(train):
        problem = f"the train part has {len(train)} labelled subjects, not the {labelled} asked for"
        fault = Fault(problem, "labelled")
        raise DataError("Not enough labelled subjects:", [fault])
    return LabelDraw(tuple(_shuffled(train, seed, "labels", draw)[:labelled]), validation)


def _own_draw(split: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], labelled: int, draw: int) -> LabelDraw:
    train = set(split["parts"]["train"])
    gone = [subject for subject in rows[draw]["labelled"] if subject not in train]
    if gone:
        whole = [f"draw={at}" for at, row in enumerate(rows) if set(row["labelled"]) <= train]
        problem = f"draw {draw} for labelled={labelled} needs {', '.join(gone)}, missing from the train part"
        remedy = f"Take one of {', '.join(whole)}, or name" if whole else "Name"
        remedy += " other subjects with subjects=[...]"
        fault = Fault(problem, f"split {split.get('name')}", remedy)
        raise DataError("The draw is incomplete:", [fault])
    row = rows[draw]
    return LabelDraw(tuple(row["labelled"]), tuple(row.get("validation", split["parts"]["validation"])))


def _not_in_train(subject: str, parts: Mapping[str, Sequence[str]]) -> Fault:
    homes = [part for part in PARTS if subject in parts.get(part, ())]
    remedy = "Choose subjects of the train part of split.json"
    if not homes:
        remedy = did_you_mean(subject, parts["train"], otherwise=remedy)
    place = " and ".join(homes) or "no part"
    return Fault(f"{subject} must be in the train part, but is in {place}", "subjects", remedy)


def _shuffled(subjects: Sequence[str], seed: int, *purpose: str | int) -> list[str]:
    # Imported here: the stream's module loads torch, which a check or an unchanged prepare can do without.
    from fewlabel.core.rng import numpy_stream

    ordered = sorted(subjects)
    return [ordered[int(index)] for index in numpy_stream(seed, "split", *purpose).permutation(len(ordered))]


def _drawn(catalog: Catalog, seed: int, fractions: tuple[float, float], *, own: bool, scans: bool) -> dict[str, Any]:
    labelled = set(catalog.labelled_subjects)
    given = sorted({c.subject for c in catalog.cases if c.part == "test" and c.label is not None}) if own else []
    given_validation = {c.subject for c in catalog.cases if c.part == "validation"} & labelled if own else set()
    mixed = sorted(set(given) & {case.subject for case in catalog.cases if case.part != "test"})
    elsewhere = {
        c.subject for c in catalog.cases if c.part != "validation" and (c.part != "test" or c.label is not None)
    }
    mixed += sorted(given_validation & elsewhere - set(mixed))
    if mixed:
        problem = (
            "some subjects have scans both inside and outside the data set's test or validation part: "
            f"{', '.join(mixed)}"
        )
        fault = Fault(problem, str(catalog.root), "Give all scans of a subject the same part")
        raise DataError("The split is not valid:", [fault])
    notes: list[str] = []
    name = "own" if given else "random"
    kept = set() if scans else _unlabelled_test(catalog)
    pool = _shuffled(sorted(labelled - set(given) - given_validation), seed, "parts")
    # Whoever cannot train without a scan that is kept for testing is the first to test and validate.
    pool.sort(key=lambda subject: subject not in kept)
    count = len(pool)
    test: list[str] = given
    validation: list[str] = sorted(given_validation)
    if count >= FEWEST_TO_SPLIT:
        wanted = 0 if given else _share(fractions[0], count)
        test = given or pool[:wanted]
        wanted_too = 0 if given_validation else _share(fractions[1], count)
        validation, pool = validation or pool[wanted : wanted + wanted_too], pool[wanted + wanted_too :]
    train = sorted(set(pool) - kept)
    if count < FEWEST_TO_SPLIT:
        idle = [word for word, part in (("validates", validation), ("tests", given)) if not part]
        notes.append(
            f"{count} labelled subject{'' if count == 1 else 's'}, fewer than {FEWEST_TO_SPLIT}: "
            f"{'all' if len(train) == count else len(train)} of them train"
            + (f", none {' or '.join(idle)}" if idle else "")
            if count
            else "no subject has a label: none trains a segmenter, validates or tests"
        )
    notes.extend(_kept_notes(kept, labelled, len(pool) - len(train)))
    held = set(test) | set(validation) | kept
    pretrain = [subject for subject in catalog.subjects if subject not in held]
    parts = {"pretrain": pretrain, "train": train, "validation": sorted(validation), "test": sorted(test)}
    return {"name": name, "parts": parts, "draws": {}, "notes": notes}


def _unlabelled_test(catalog: Catalog) -> set[str]:
    """Subjects with an unlabelled scan that the data set keeps for testing."""
    return {case.subject for case in catalog.cases if case.part == "test" and case.label is None}


def _kept_notes(kept: set[str], labelled: set[str], idle: int) -> list[str]:
    notes = []
    if kept - labelled:
        notes.append(
            f"{len(kept - labelled)} unlabelled subjects are kept for testing by the data set: in no part "
            "(pretrain_on_test_scans=true lets their images enter pre-training)"
        )
    if kept & labelled:
        rest = f", and {idle} of them are in no part" if idle else ""
        notes.append(
            f"{len(kept & labelled)} labelled subjects also have unlabelled scans that the data set keeps for "
            f"testing. Parts are of whole subjects, so they do not train; they test and validate first{rest} "
            "(pretrain_on_test_scans=true lets them train, with those scans)"
        )
    return notes


def _unused(split: str) -> list[str]:
    return [f"pretrain_on_test_scans=true is unused: {split} says itself who enters pre-training"]


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
            f"split {name} has no labelled subject in its {part} part: "
            f"none of its {len(split['parts'][part])} subjects, such as {split['parts'][part][0]}, has a label here",
            str(catalog.root),
            "Use split=random, or the data set the split was made for (ACDC)",
        )
        for part in ("train", "test")
        if not parts[part]
    ]
    if faults:
        raise DataError("The split does not fit the data set:", faults)
    # Draws keep their numbers: one that lacks a subject is an error only when it is asked for.
    draws = {
        count: [
            {
                "labelled": row["labelled"],
                "validation": [subject for subject in row["validation"] if subject in labelled],
            }
            for row in rows
        ]
        for count, rows in split["draws"].items()
    }
    notes = []
    if wanted - present:
        notes.append(f"{len(wanted - present)} of the split's {len(wanted)} subjects are not in this data set")
    if present - wanted:
        notes.append(f"{len(present - wanted)} subjects are not in the split: in no part")
    lacking = [not set(row["labelled"]) <= set(parts["train"]) for rows in draws.values() for row in rows]
    if any(lacking):
        notes.append(f"{sum(lacking)} of {len(lacking)} draws lack a labelled subject: each is an error if asked for")
    return {"name": name, "parts": parts, "draws": draws, "notes": notes}


def _from_file(catalog: Catalog, path: Path, *, scans: bool) -> dict[str, Any]:
    split = user_split_file.read_split_file(catalog, path)
    given = split["parts"]
    parts = {part: given.get(part, []) for part in PARTS}
    kept, notes = _unlabelled_test(catalog), []
    if "pretrain" in given:
        notes = _unused("the file") if scans else []
        both = kept & set(given["pretrain"])
        if both:
            notes.append(
                f"{len(both)} subjects of the pretrain part have unlabelled scans that the data set keeps for testing: "
                "they enter pre-training, as the file says"
            )
    else:
        held = set(parts["validation"]) | set(parts["test"]) | (set() if scans else kept)
        unlabelled = set(catalog.subjects) - set(catalog.labelled_subjects)
        parts["pretrain"] = sorted({*parts["train"], *unlabelled} - held)
        notes = [] if scans else _kept_notes(kept - set(catalog.labelled_subjects), set(), 0)
        both = kept & set(parts["train"])
        if both and not scans:
            notes.append(
                f"{len(both)} subjects of the train part also have unlabelled scans that the data set keeps for "
                "testing: they do not enter pre-training, but regimes that use unlabelled slices will see those scans"
            )
    return {**split, "parts": parts, "notes": notes}
