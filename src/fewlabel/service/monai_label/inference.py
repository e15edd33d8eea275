"""``predict`` for one scan of a viewer, its mask in the numbers and the format that were asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import as_file_name
from fewlabel.core.progress import silence
from fewlabel.data.io.itk_image import read_image
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.io.volume_reading import read_mask
from fewlabel.data.preprocess import indices_of_values
from fewlabel.data.store import PreparedCase
from fewlabel.engine.runtime import Device
from fewlabel.service.monai_label.run_scans import RunScans
from fewlabel.stages import predict

#: Formats of a mask, as a viewer may ask for them by ``result_extension``.
EXTENSIONS = (".nii.gz", ".nii", ".nrrd")
_DTYPES = {kind.__name__: kind for kind in (np.uint8, np.uint16, np.int16, np.int32)}


class Inference:
    """Predicts, one scan after the other.

    Args:
        scans: Of the run.
        device: Where to compute.
    """

    def __init__(self, scans: RunScans, device: Device) -> None:
        self.scans, self.device = scans, device
        self._alone = threading.Lock()

    def infer(self, scan: PreparedCase | Path, params: Mapping[str, Any], folder: Path) -> tuple[Path, dict[str, Any]]:
        """Segment a scan of the run, or one that was sent.

        Args:
            scan: The scan.
            params: Of the request: ``flip``, ``result_extension``, ``result_dtype``, ``result_compress``.
            folder: Where the mask goes.

        Returns:
            The mask, and ``label_names``: the classes in it with their numbers. Slicer names what it finds in a mask in
            their order, so that a class that is missing must not be among them.

        Raises:
            SettingsError: If a parameter is unknown.
            DataError: If the scan cannot be segmented.
        """
        extension = str(params.get("result_extension") or ".nii.gz")
        dtype = str(params.get("result_dtype") or "uint8")
        for word, value, known in (("result_extension", extension, EXTENSIONS), ("result_dtype", dtype, _DTYPES)):
            if value not in known:
                fault = Fault(f"{value!r} is not known", word, f"Choose from {', '.join(known)}")
                raise SettingsError("Nothing was segmented:", [fault])
        # An id may begin with a dot, which would hide the file, and then stands for a folder.
        stem = as_file_name(scan.id) if isinstance(scan, PreparedCase) else "mask"
        store = self.scans.state().store
        # A NIfTI beside which nothing is lost: the mask of a DICOM series is one, too.
        made = folder / "predicted" / f"{stem}.nii.gz"
        given: dict[str, Any] = {
            "model": self.scans.run,
            "scans": store.folder if isinstance(scan, PreparedCase) else scan,
            "out": made,
            "device": self.device,
        }
        given |= {"cases": [scan.id]} if isinstance(scan, PreparedCase) else {}
        given |= {"flip": bool(params.get("flip", False))}
        made.parent.mkdir()
        with self._alone, silence():
            predict.run(predict.SETTINGS.parse(given))
        # A network says of every voxel what it is, so none is to be ignored.
        numbers = indices_of_values(read_mask(made), self.scans.state().plan)
        target = folder / f"{stem}{extension}"
        if extension == ".nrrd":
            mask = sitk.GetImageFromArray(numbers.astype(_DTYPES[dtype]))
            mask.CopyInformation(read_image(made))
            sitk.WriteImage(mask, str(target), useCompression=bool(params.get("result_compress", True)))
        else:
            # By the header of the scan, field by field.
            write_mask(target, numbers.astype(_DTYPES[dtype]), made)
        present = set(np.unique(numbers).tolist())
        names = {name: number for name, number in self.scans.state().numbers.items() if number in present}
        return target, {"label_names": names}
