"""``merge``: several prepared folders as one, to pre-train on all of them."""

from __future__ import annotations

import time
from pathlib import Path

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.artifact.files import building
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import conflict_sentence, path_conflict
from fewlabel.core.progress import say
from fewlabel.core.settings.base import Names, PathSetting, Settings, setting
from fewlabel.data.merge import merge_stores
from fewlabel.data.pose_record import write_poses
from fewlabel.data.store import STORE_FILES, PreparedStore


class MergeSettings(Settings):
    """Settings of ``fewlabel merge``."""

    data: PathSetting = setting(..., "the first prepared folder")
    others: Names = setting(..., "further prepared folders of the same size and channels")
    out: PathSetting = setting(..., "folder of the merged store")


SETTINGS = MergeSettings


def run(settings: MergeSettings) -> Path:
    """Merge prepared folders into one of kind ``prepared``, for pre-training on their union.

    Raises:
        SettingsError: If ``out`` holds something already.
        DataError: If the stores do not fit together.
    """
    started = time.monotonic()
    out = settings.out
    folders = [settings.data, *map(Path, settings.others)]
    if (before := Artifact.find(out, "prepared")) is not None:
        known = {parent.content_hash for parent in before.manifest.parents}
        if known == {Artifact.open(folder, "prepared").content_hash for folder in folders}:
            say(f"{out} is up to date.")
            return out
    obstacle = path_conflict(out)
    if obstacle:
        fault = Fault(conflict_sentence(out, obstacle), remedy="Give another --out")
        raise SettingsError("Nothing was written:", [fault])
    stores = [PreparedStore(folder) for folder in folders]
    with building(out) as partial:
        merge_stores(stores, partial)
        finish_artifact(
            partial,
            "prepared",
            STORE_FILES,
            parents=folders,
            final_folder=out,
            settings=settings.record(settings.out),
            wall_seconds=time.monotonic() - started,
        )
        write_poses(PreparedStore(partial), partial)
    return out
