"""What was learnt from: scans, patients, meta labels, parts and the annotated patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewlabel.data.pose_record import read_poses
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.reporting.blocks import Block, Facts, Section, Strip, Table, Text
from fewlabel.reporting.figures.images import choose_slices, slice_figure
from fewlabel.reporting.formatting import count, listed
from fewlabel.reporting.sections.embedding import class_names

TITLE = "Data"
MISSING = "The prepared scans were not given, so they cannot be described."
PARTS = {
    "pretrain": "images for pre-training, labels unused",
    "train": "labels available for training",
    "validation": "model selection only",
    "test": "never used for training",
}
#: Meta labels with more classes than this get a range instead of a count per class.
LISTED = 8


def data_section(store: PreparedStore | None, labelled: Sequence[str]) -> Section:
    """Facts, examples, meta labels and parts.

    Args:
        store: The prepared scans, or None.
        labelled: Patients whose labels trained the model.
    """
    if store is None:
        return Section("data", TITLE, "", [Text(MISSING, "missing")])
    blocks: list[Block] = [Facts(_facts(store, labelled)), *_examples(store, labelled)]
    blocks += [_meta_table(store), _part_table(store, labelled)]
    return Section("data", TITLE, "", blocks)


def _facts(store: PreparedStore, labelled: Sequence[str]) -> list[tuple[str, str]]:
    plan, slices = store.plan, store.slices
    with_label = sum(case.label is not None for case in store.cases)
    annotated = {case.subject for case in store.cases if case.label is not None}
    subjects = {case.subject for case in store.cases}
    row, column = (float(value) for value in plan["spacing"])
    high, wide = plan["size"]
    between = sorted({round(step, 2) for case in store.cases if (step := _slice_step(case)) is not None})
    sized = all(case.record.get("spacing_known", True) for case in store.cases)
    unit = "mm" if sized else "pixels of the files, which do not all say how large these are"
    gap = "" if not between else f"{between[0]:g} mm" if len(between) == 1 else f"{between[0]:g} to {between[-1]:g} mm"
    gap = gap if sized else ""
    depths = slices.groupby("case", sort=False).size()
    poses = read_poses(store.folder)
    deep = f"{depths.min()} to {depths.max()}" if depths.min() != depths.max() else str(depths.min())
    facts = [
        ("Data set", f"{plan.get('dataset', '')} (reader {plan.get('reader', '')})"),
        ("Scans", f"{len(store.cases)} of {count(len(subjects), 'patient')}, {count(len(slices), 'slice')}"),
        ("Annotated", f"{count(with_label, 'scan')} of {count(len(annotated), 'patient')}"),
        ("Labels used for training", listed(list(labelled)) if labelled else "none"),
        ("Network input", f"slices of {high} × {wide} pixels of {row:.3g} × {column:.3g} {unit}"),
        ("Slices per scan", f"{deep}{', ' + gap + ' apart' if gap else ''}"),
        ("In the plane", poses.sentence("mm" if sized else "pixels") if poses is not None and poses.scans else ""),
        ("Structures", listed([name for index, name in sorted(store.label_names.items()) if index], 12) or "none"),
        ("Split", f"{store.split.get('name', '')}, seed {store.split.get('seed', '')}"),
    ]
    return [(term, value) for term, value in facts if value]


def _slice_step(case: PreparedCase) -> float | None:
    """Distance between slices in mm, from the geometry record of preparation; None if it has none."""
    spacing, axes = case.record.get("spacing"), case.record.get("axes")
    return float(spacing[axes[0]]) if spacing and axes else None


def _meta_table(store: PreparedStore) -> Table:
    """A row per meta label: classes, slices per class, slices without one."""
    rows = []
    for name, classes in store.meta_labels.items():
        codes = store.slices[f"meta_{name}"].to_numpy(np.int64)
        counts = np.bincount(codes[codes >= 0], minlength=classes)
        if classes <= LISTED:
            names = class_names(store, name)
            sizes = ", ".join(f"{label}: {number}" for label, number in zip(names, counts, strict=False))
        else:
            sizes = f"{counts.min()} to {counts.max()} each"
        rows.append([name, str(classes), sizes, str(int((codes < 0).sum()))])
    head = ["Meta label", "classes", "slices per class", "missing"]
    return Table(head, rows, "Metadata of the slices", frozenset({1, 3}), wrapped=frozenset({2}))


def _part_table(store: PreparedStore, labelled: Sequence[str]) -> Table:
    """A row per part of the split, and one for the labels in use."""
    rows = [[name, *_counts(store, subjects), PARTS.get(name, "")] for name, subjects in store.split["parts"].items()]
    if labelled:
        rows.append(["labels used", *_counts(store, labelled), listed(list(labelled))])
    head = ["Part", "patients", "scans", "slices", "annotated slices", "used for"]
    strong = frozenset({len(rows) - 1}) if labelled else frozenset[int]()
    return Table(head, rows, "Parts of the split, by patient", frozenset({1, 2, 3, 4}), strong, frozenset({5}))


def _counts(store: PreparedStore, subjects: Sequence[str]) -> list[str]:
    wanted = set(subjects)
    scans = sum(case.subject in wanted for case in store.cases)
    slices = store.slices_of(list(subjects))
    return [str(len(wanted)), str(scans), str(len(slices)), str(len(store.slices_of(list(subjects), labelled=True)))]


def _examples(store: PreparedStore, labelled: Sequence[str]) -> list[Block]:
    """Slices of an annotated, an unlabelled and a test scan, as far as there are such."""
    test = set(store.split["parts"].get("test", []))
    wanted = [
        ("Annotated for training", [case for case in store.cases if case.subject in set(labelled) and case.label]),
        ("Not annotated", [case for case in store.cases if case.label is None and case.subject not in test]),
        ("Kept for testing", [case for case in store.cases if case.subject in test]),
    ]
    strips: list[Block] = [_strip(store, cases[0], title) for title, cases in wanted if cases]
    return strips or [_strip(store, case, "Example") for case in store.cases[:1]]


def _strip(store: PreparedStore, case: PreparedCase, title: str) -> Strip:
    images = np.asarray(store.images[case.start : case.stop, 0], np.float32)
    masks = np.asarray(store.labels[case.start : case.stop])
    rows = store.slices.iloc[case.start : case.stop]
    tiles = []
    for z in choose_slices(masks) if case.label else choose_slices(np.zeros_like(masks)):
        part = int(rows["meta_position"].iloc[z]) + 1 if "meta_position" in rows else None
        caption = f"slice {z + 1} of {len(images)}" + (f", part {part}" if part is not None else "")
        alt = f"{title}: {case.id}, {caption}."
        tiles.append(slice_figure(images[z], masks[z] if case.label else None, alt=alt, caption=caption))
    return Strip(title, case.id, tiles)
