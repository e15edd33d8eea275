"""Settings of ``view``."""

from __future__ import annotations

from typing import Any

from fewlabel.core.settings.base import Names, PathSetting, Settings, setting


class ViewSettings(Settings):
    """Settings of ``fewlabel view``."""

    place: PathSetting = setting(..., "run folder made by train or demo; or a scan, a folder or a table of scans")
    port: int | None = setting(None, "of this machine; null for the first free one from 8600 on", ge=1, le=65535)
    masks: PathSetting | None = setting(
        None, "folder that masks are saved into; null for RUN/annotations, and for scans alone nowhere"
    )
    classes: Names = setting((), "of scans alone: what is drawn, in the order of values from 1; a run knows its own")
    reader: str | dict[str, Any] = setting("auto", "of scans alone: who reads them, by id or with settings of its own")
    learn: dict[str, Any] = setting({}, "settings of learn for rounds that the page begins")
    largest_mask: int = setting(512, "largest mask that may be saved", unit="MiB", ge=1)
