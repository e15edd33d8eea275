"""Settings of ``predict``."""

from __future__ import annotations

from typing import Any

from fewlabel.core.settings.base import Names, PathSetting, Settings, setting
from fewlabel.engine.runtime import Device, Precision, thread_setting
from fewlabel.stages.predict.formats import FormatName


class PredictSettings(Settings):
    """Settings of ``fewlabel predict``."""

    model: PathSetting = setting(
        ..., "segmenter folder; or run folder made by train or demo: its model, or its control where that is better"
    )
    scans: PathSetting = setting(..., "a scan, a folder of scans, or a table of scans; or a prepared folder")
    cases: Names | None = setting(
        None, "of a prepared folder, the scans to segment by id; null for those of the training parts without a label"
    )
    out: PathSetting = setting(..., "folder of the masks; or a file, such as mask.nii.gz, for the mask of one scan")
    format: FormatName = setting(
        "auto",
        "of the masks; auto: as the scan, where a mask can be; nifti: .nii.gz; seg_nrrd: segmentations for 3D Slicer; "
        "bids: a derivative data set with sub-…_dseg.nii.gz, dseg.tsv and dataset_description.json; of DICOM series "
        "also dicom_seg: segmentations of bits; dicom_labelmap: of numbers; rtstruct: structure sets",
    )
    reader: str | dict[str, Any] = setting(
        "auto",
        "reader of the scans by id; auto chooses by what the folder looks like; settings not given are those that "
        "prepare had for the model",
    )
    flip: bool = setting(False, "average predictions over the flips of the slice plane; takes four times as long")
    postprocess: bool = setting(True, "clean masks by the rule stored with the segmenter, if any; never probabilities")
    probabilities: bool = setting(False, "also write class probabilities, float32, classes along the fourth axis")
    uncertainty: bool = setting(
        False,
        "also write a map of uncertainty, float32 in nats: mutual information between network and class; of one "
        "network alone, the entropy of its softmax",
        source="BALD, Houlsby et al. 2011",
    )
    overwrite: bool = setting(False, "replace masks that are there already")
    batch: int = setting(0, "slices, or windows of a 3D network, in one pass; 0 for what suits the device", ge=0)
    device: Device = setting("auto", "where to predict")
    precision: Precision = setting("auto", "bf16 where the hardware supports it; probabilities are always float32")
    threads: int = thread_setting()

    @property
    def beside(self) -> tuple[str, ...]:
        """What is written beside masks."""
        return tuple(kind for kind in ("probabilities", "uncertainty") if getattr(self, kind))
