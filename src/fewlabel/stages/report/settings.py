"""Settings of ``report``."""

from __future__ import annotations

from fewlabel.core.settings.base import Names, PathSetting, Settings, setting
from fewlabel.engine.runtime import Device


class ReportSettings(Settings):
    """Settings of ``fewlabel report``: a run folder, or the artifact folders one by one."""

    run: PathSetting | None = setting(None, "run folder, as train or demo leaves it")
    out: PathSetting | None = setting(
        None, "folder of the report to make; null for RUN/report, and for RUN/comparison with several runs"
    )
    prepared: PathSetting | None = setting(None, "prepared folder, if not that of the run")
    encoder: PathSetting | None = setting(None, "encoder folder, if not that of the run")
    segmenter: PathSetting | None = setting(None, "segmenter folder, if not that of the run")
    control: PathSetting | None = setting(None, "segmenter folder of the control, if not that of the run")
    scores: PathSetting | None = setting(None, "scores folder, if not that of the run")
    points: int = setting(1500, "slices on the map of embeddings, at most", unit="slices", ge=3, le=5000)
    perplexity: float = setting(30.0, "neighbours that count in t-SNE", ge=2, source="van der Maaten & Hinton 2008")
    neighbours: int = setting(10, "nearest neighbours that the purity of a slice is computed from", ge=1)
    beside: Names | None = setting(None, "further run folders to put beside the first, on a page of its own")
    unlabelled: int = setting(
        6,
        "unlabelled scans to show, from the least to the most confident",
        unit="scans",
        ge=0,
    )
    seed: int = setting(0, "seed of the map", ge=0)
    device: Device = setting("auto", "where to predict the scans that are shown")
