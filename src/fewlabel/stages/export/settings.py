"""Settings of ``export``."""

from __future__ import annotations

from collections.abc import Set
from typing import ClassVar, Literal

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import PathSetting, Settings, setting

Target = Literal["nnunet", "monai", "onnx", "monai_bundle", "nnunet_raw"]


class ExportSettings(Settings):
    """Settings of ``fewlabel export``."""

    source: PathSetting = setting(
        ...,
        "run folder made by train or demo; or an encoder folder for nnunet and monai, a segmenter folder for onnx and "
        "monai_bundle, a prepared folder for nnunet_raw",
    )
    out: PathSetting = setting(
        ...,
        "file to write, a .json of the same name goes beside it: .safetensors, .pth or .pt for nnunet and monai, .onnx "
        "for onnx; or folder: of the bundle for monai_bundle, of nnUNet_raw and nnUNet_preprocessed for nnunet_raw",
    )
    to: Target = setting(
        ...,
        "nnunet, monai: weights of the encoder for nnU-Net (PlainConvUNet) or MONAI (BasicUNet); "
        "onnx: the segmenter as an ONNX model; monai_bundle: the segmenter with all that comes before and after it; "
        "nnunet_raw: scans, masks and split as a raw data set of nnU-Net",
    )
    pool: Literal["max", "conv"] = setting(
        "max",
        "for nnunet: max names a network with the same maps, conv one as nnU-Net builds it, whose maps differ",
        source="pool of PlainConvEncoder",
    )
    scans: PathSetting | None = setting(
        None,
        "for onnx and monai_bundle: scan or folder of scans to check the export on; prepared ones of its data set by "
        "default",
    )
    name: str = setting("", "for nnunet_raw: name of the data set; its own by default")
    number: int = setting(501, "for nnunet_raw: number of the data set", ge=1, le=999)
    overwrite: bool = setting(False, "replace files that are there already")

    #: Setting → what it is for, where that is not everything.
    only: ClassVar[dict[str, tuple[str, ...]]] = {
        "scans": ("onnx", "monai_bundle"),
        "name": ("nnunet_raw",),
        "number": ("nnunet_raw",),
    }

    def contradictions(self, where: str = "", *, without: Set[str] = frozenset()) -> list[Fault]:
        """Settings that what is exported has no use for."""
        return [
            Fault(f"is for to={' and to='.join(targets)}, not for to={self.to}", f"{where}{key}", "Leave it out")
            for key, targets in self.only.items()
            if key in self.model_fields_set and self.to not in targets and not {key, "to"} & without
        ]
