"""Whether a prepared store is that of its scans: their files by content, and some of them prepared again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewlabel.core.errors import FewlabelError
from fewlabel.data.io.catalog_paths import is_there
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.data.preprocess import Plan, prepare_mask, prepare_volume
from fewlabel.data.source_fingerprint import changed_sources
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.pipelines.verify.findings import Finding, differs, held, not_checked, refused
from fewlabel.reporting.formatting import count


def remade_scans(store: PreparedStore, wanted: int, part: str) -> list[Finding]:
    """Hold the scans of a store against their files, as far as these are there.

    Args:
        store: The store.
        wanted: Scans that are prepared again.
        part: What the store is called.
    """
    found = [_sources(store, f"{part}: scans")]
    there = [case for case in store.cases if case.record and all(is_there(Path(path)) for path in _paths(case))]
    if not there:
        return [*found, not_checked(f"{part}: remade", "no scan is where the store has it")]
    if not wanted:
        return found
    # From all of it, first and last among them.
    chosen = [there[index] for index in sorted({*np.linspace(0, len(there) - 1, wanted).round().astype(int).tolist()})]
    plan = Plan.load(store.plan)
    try:
        other = [case.id for case in chosen if not _same(store, case, plan)]
    except FewlabelError as error:
        return [*found, refused(f"{part}: remade", error)]
    if other:
        return [*found, differs(f"{part}: remade", f"{', '.join(other)}: other pixels when prepared again")]
    return [
        *found,
        held(f"{part}: remade", f"{len(chosen)} of {count(len(store.cases), 'scan')} prepared again: identical"),
    ]


def _sources(store: PreparedStore, part: str) -> Finding:
    facts = changed_sources(store.folder)
    if facts is None:
        return not_checked(part, "the store does not say what files it was made of")
    if facts.changed:
        more = f", and {len(facts.changed) - 2} more" if len(facts.changed) > 2 else ""
        return differs(part, f"{', '.join(facts.changed[:2])}{more} changed since")
    if facts.gone:
        return not_checked(part, f"{facts.gone} of {facts.gone + facts.same} files are gone")
    return held(part, f"{count(facts.same, 'file')} by content")


def _paths(case: PreparedCase) -> list[str]:
    return [*case.images, *([case.label] if case.label else [])]


def _same(store: PreparedStore, case: PreparedCase, plan: Plan) -> bool:
    volume = read_volume([Path(path) for path in case.images])
    array, record = prepare_volume(volume, plan)
    pixels = np.asarray(array.transpose(1, 0, 2, 3), dtype=np.float16)
    if not np.array_equal(pixels, store.images[case.start : case.stop]):
        return False
    if case.label is None:
        return True
    if "unannotated" in case.record:
        record["unannotated"] = case.record["unannotated"]
    mask = prepare_mask(read_mask(Path(case.label), grid=volume.geometry), record, plan)
    return np.array_equal(mask, store.labels[case.start : case.stop])
