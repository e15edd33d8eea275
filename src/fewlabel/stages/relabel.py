"""``relabel``: new and corrected masks come into prepared scans; nothing else is prepared again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import building
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.output_paths import conflict_sentence, path_conflict
from fewlabel.core.progress import say
from fewlabel.core.settings.base import PathSetting, Settings, setting
from fewlabel.data.added_mask_reading import plan_with_ignored, read_annotations
from fewlabel.data.annotation_saving import said_to_be_empty
from fewlabel.data.empty_masks import empty_mask_faults
from fewlabel.data.io.catalog_paths import is_there
from fewlabel.data.label_values import read_meanings
from fewlabel.data.masks_added_later import find_annotations
from fewlabel.data.preprocess import Plan
from fewlabel.data.relabel import untaken_masks, write_relabelled
from fewlabel.data.scan_locations import moved_remedy
from fewlabel.data.store import STORE_FILES, PreparedStore
from fewlabel.data.unannotated_slices import EmptySlices

__all__ = ["SETTINGS", "RelabelSettings", "new_annotations", "run"]


class RelabelSettings(Settings):
    """Settings of ``fewlabel relabel``."""

    data: PathSetting = setting(..., "prepared folder")
    masks: PathSetting = setting(..., "folder of masks, each named by its scan, on the grid of its scan")
    out: PathSetting = setting(..., "folder of the prepared store to make")
    labels: Annotated[dict[int, int | Literal["ignore"]] | None, BeforeValidator(read_meanings)] = setting(
        None,
        "what values in the masks stand for beside those of prepare, as {4: ignore, 9: 0}; 255 is what nobody looked "
        "at, unless it is a class",
    )
    empty_slices: EmptySlices = setting(
        "auto", "what slices without any label are in masks without 255, as for prepare; all leaves all of them out"
    )
    empty_masks: bool = setting(
        False, "take masks without any structure, where every scan so far has one: there is nothing on these scans"
    )


SETTINGS = RelabelSettings


def new_annotations(data: PreparedStore, masks: Path, *, strays_left_out: bool = False) -> dict[str, Path]:
    """Case → mask of those masks in a folder that a store has not taken yet, as they are now.

    Scans of the test part are left out, and that is said: what tests is not learnt from.

    Raises:
        DataError: As :func:`fewlabel.data.masks_added_later.find_annotations`.
    """
    found = find_annotations(masks, data.cases, strays_left_out=strays_left_out)
    owners = {case.id: case.subject for case in data.cases}
    test = set(data.split["parts"].get("test", ()))
    tested = [case_id for case_id in found if owners[case_id] in test]
    if tested:
        say(f"Left out, as they are of test patients: {', '.join(tested)}.")
    return untaken_masks(data, found)


def run(settings: RelabelSettings, *, strays_left_out: bool = False) -> Path:
    """Make a prepared store that has these masks beside, or in place of, those it had.

    Scans, grid and classes stay as they are. Subjects with a first mask come into the part ``train`` of the split;
    masks of validation patients stay validation, those of test patients are left out.

    Args:
        settings: As declared.
        strays_left_out: Whether masks that belong to no scan are left out, and said, as where somebody has drawn with a
            page that does so.

    Returns:
        The folder of the prepared artifact, a child of the one before.

    Raises:
        SettingsError: If ``out`` holds something.
        DataError: If there is no new mask, or with every mask that cannot be used.
    """
    started = time.monotonic()
    if obstacle := path_conflict(settings.out):
        fault = Fault(conflict_sentence(settings.out, obstacle), remedy="Give another --out")
        raise SettingsError("Nothing was written:", [fault])
    store = PreparedStore(settings.data)
    files = new_annotations(store, settings.masks, strays_left_out=strays_left_out)
    if not files:
        fault = Fault(f"{settings.masks} holds no mask that is new", remedy="Draw or correct one, then repeat")
        raise DataError("There is nothing to take:", [fault])
    cases = {case.id: case for case in store.cases}
    gone = [case_id for case_id in files if not is_there(Path(cases[case_id].images[0]))]
    if gone:
        path = cases[gone[0]].images[0]
        fault = Fault(f"its file {path} is gone", f"case {gone[0]}", moved_remedy(store.folder))
        raise DataError("These masks cannot be used:", [fault])
    plan = plan_with_ignored(Plan.load(store.plan))
    masks, notes = read_annotations(files, cases, plan, settings.labels, settings.empty_slices)
    if not settings.empty_masks and (faults := empty_mask_faults(store, masks, plan, said_to_be_empty(settings.masks))):
        raise DataError("These masks cannot be used:", faults)
    for mask in masks:
        say(f"{mask.case.id}: {mask.words}")
    for note in notes:
        say(note)
    with building(settings.out) as folder:
        more = write_relabelled(store, masks, plan, folder, settings.out)
        finish_artifact(
            folder,
            "prepared",
            [*STORE_FILES, *more],
            parents=[store.artifact],
            final_folder=settings.out,
            settings=settings.record(settings.out),
            wall_seconds=time.monotonic() - started,
        )
    return settings.out
