"""Catalogs without files, for what looks at subjects and parts alone."""

from __future__ import annotations

from pathlib import Path

from fewlabel.data.catalog import Case, Catalog


def catalog(labelled, unlabelled=(), test=(), unlabelled_test=()):
    """Two scans per subject."""
    cases = []
    for group, label, part in (
        (labelled, True, ""),
        (unlabelled, False, ""),
        (test, True, "test"),
        (unlabelled_test, False, "test"),
    ):
        for subject in group:
            for frame in (1, 2):
                name = f"{subject}_f{frame}"
                cases.append(
                    Case(name, subject, (Path(f"{name}.nii"),), Path(f"{name}_gt.nii") if label else None, {}, part)
                )
    return Catalog("toy", Path("root"), "table", tuple(cases))


def names(count, prefix="s"):
    return [f"{prefix}{number:02d}" for number in range(count)]


def reserved(part_of):
    """One scan per entry: (subject, labelled, part)."""
    cases = [
        Case(f"c{number}", subject, (Path(f"c{number}.nii"),), Path("gt.nii") if label else None, {}, part)
        for number, (subject, label, part) in enumerate(part_of)
    ]
    return Catalog("toy", Path("root"), "msd", tuple(cases))
