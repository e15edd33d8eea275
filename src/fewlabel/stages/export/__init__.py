"""``export``: what was trained, for other programs."""

from __future__ import annotations

from pathlib import Path

from fewlabel.stages.export.encoder_weights import find_encoder, write_encoder
from fewlabel.stages.export.settings import ExportSettings

__all__ = ["SETTINGS", "ExportSettings", "find_encoder", "run"]

SETTINGS = ExportSettings


def run(settings: ExportSettings) -> Path:
    """Write what ``to`` asks for; returns the file or folder.

    Raises:
        FewlabelError: If what is to be exported is not there, the other program cannot take it, or something that is
            there would be replaced; nothing is written then.
    """
    if settings.to == "onnx":
        from fewlabel.stages.export.onnx_model import write_onnx

        return write_onnx(settings)
    if settings.to == "monai_bundle":
        from fewlabel.stages.export.bundle import write_bundle

        return write_bundle(settings)
    if settings.to == "nnunet_raw":
        from fewlabel.stages.export.nnunet_raw import write_nnunet_raw

        return write_nnunet_raw(settings)
    return write_encoder(settings, settings.to)
