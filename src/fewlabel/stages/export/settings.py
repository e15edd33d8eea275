"""Settings of ``export``."""

from __future__ import annotations

from collections.abc import Set
from typing import ClassVar, Literal

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import PathSetting, Settings, setting

Target = Literal["nnunet", "monai", "onnx", "monai_bundle"]


class ExportSettings(Settings):
    """Settings of ``fewlabel export``."""

    source: PathSetting = setting(
        ...,
        "run folder made by train or demo; or an encoder folder for nnunet and monai, a segmenter folder for onnx and "
        "monai_bundle",
    )
    out: PathSetting = setting(
        ...,
        "file to write, a .json of the same name goes beside it: .safetensors, .pth or .pt for nnunet and monai, .onnx "
        "for onnx; or folder for monai_bundle",
    )
    to: Target = setting(
        ...,
        "nnunet, monai: weights of the encoder for nnU-Net (PlainConvUNet) or MONAI (BasicUNet); "
        "onnx: the segmenter as an ONNX model; monai_bundle: the segmenter with all that comes before and after it",
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
    overwrite: bool = setting(False, "replace files that are there already")

    #: Setting → what it is for, where that is not everything.
    only: ClassVar[dict[str, tuple[str, ...]]] = {"scans": ("onnx", "monai_bundle")}

    def contradictions(self, where: str = "", *, without: Set[str] = frozenset()) -> list[Fault]:
        """Settings that what is exported has no use for."""
        return [
            Fault(f"is for to={' and to='.join(targets)}, not for to={self.to}", f"{where}{key}", "Leave it out")
            for key, targets in self.only.items()
            if key in self.model_fields_set and self.to not in targets and not {key, "to"} & without
        ]
