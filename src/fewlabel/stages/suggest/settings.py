"""Settings of ``suggest``."""

from __future__ import annotations

from typing import Literal

from fewlabel.core.settings.base import PathSetting, Settings, setting
from fewlabel.engine.runtime import Device, Precision

Rule = Literal["coverage", "disagreement"]


class SuggestSettings(Settings):
    """Settings of ``fewlabel suggest``."""

    run: PathSetting = setting(..., "run folder made by train or demo; or a prepared folder, before any training")
    out: PathSetting | None = setting(None, "table to write; null for suggestions.csv in the folder")
    count: int = setting(5, "scans to suggest", unit="scans", ge=1)
    rule: Literal["auto", Rule] = setting(
        "auto",
        "coverage: scans that most others are near to; disagreement: those that networks disagree on, and coverage "
        "among them; auto: coverage before there is a segmentation network, disagreement after",
        source="coverage, and both together: Yang et al. 2017, Suggestive annotation",
    )
    shortlist: int = setting(
        4, "with disagreement, cover from this many times count of the scans that it is highest on", ge=1
    )
    seed: int = setting(0, "seed of the random control", ge=0)
    device: Device = setting("auto", "where to compute")
    precision: Precision = setting("auto", "bf16 where the hardware supports it")
