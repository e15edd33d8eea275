"""From a scan to its mask in the terms of a MONAI bundle: what comes before the network, and what comes after."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.data.back_to_scan_grid import restore_probabilities
from fewlabel.data.io.geometry import Geometry, Volume
from fewlabel.data.preprocess import Plan, prepare_volume
from fewlabel.scoring.component_rule import ComponentRule, clean
from fewlabel.stages.export.bundle_scripts.network import Segmenter, predict_volume

Item = dict[str, Any]
_SUFFIXES = (".nii.gz", ".nii")
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})$")
#: Fields of a NIfTI header that programs fill with names of people, files and studies.
_FREE_TEXT = ("descrip", "db_name", "aux_file", "intent_name")


def scans_in(folder: str, channels: int = 1) -> list[list[str]]:
    """The NIfTI files of a folder, sorted; with several channels, files ``CASE_0000``, ``CASE_0001`` are one scan.

    Args:
        folder: Where the scans lie.
        channels: Of a scan.

    Raises:
        ValueError: If there is no scan, or a channel of one is missing.
    """
    files = sorted(path for path in Path(folder).glob("*") if path.name.endswith(_SUFFIXES))
    if channels == 1:
        scans = [[str(path)] for path in files]
    else:
        cases: dict[str, dict[int, str]] = defaultdict(dict)
        for path in files:
            if match := _CHANNEL.fullmatch(_stem(path)):
                cases[match["case"]][int(match["channel"])] = str(path)
        if lacking := [case for case, row in cases.items() if sorted(row) != list(range(channels))]:
            raise ValueError(f"{folder}: {', '.join(lacking)} must have the channels 0000 to {channels - 1:04d}")
        scans = [[row[channel] for channel in sorted(row)] for _, row in sorted(cases.items())]
    if not scans:
        raise ValueError(f"{folder} holds no .nii or .nii.gz files. Give another dataset_dir")
    return scans


class PrepareScan:
    """Read a scan and bring it to the grid and the intensities that the networks know.

    Args:
        plan: How, as ``inference.json`` has it.
    """

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.plan = Plan.load(plan)

    def __call__(self, item: Item) -> Item:
        """Replace the paths under ``image`` by the prepared scan (channels, depth, height, width).

        Raises:
            ValueError: If the files are no one scan with the channels that the networks take.
        """
        volume = read_scan([Path(path) for path in item["image"]])
        array, record = prepare_volume(volume, self.plan)
        return {**item, "image": torch.from_numpy(array), "record": record, "files": volume.paths}


class VolumeInferer:
    """Probabilities of a prepared scan by all networks, in float32.

    Args:
        window: Largest window of networks of volumes, (depth, height, width).
        batch: Slices, or windows, in one pass; 0 for what suits the device.
    """

    def __init__(self, window: Sequence[int], batch: int = 0) -> None:
        self.window, self.batch = window, batch

    def __call__(self, inputs: Tensor, network: Segmenter) -> Tensor:
        """(1, channels, depth, height, width) → (1, classes, depth, height, width)."""
        with torch.inference_mode():
            return predict_volume(
                network,
                inputs[0],
                ndim=network.ndim,
                stride=network.stride,
                members=len(network.members),
                window=self.window,
                batch=self.batch,
            )[None]


class RestoreMask:
    """Bring probabilities back to the grid of the scan, and make a clean mask of them.

    Args:
        plan: As of :class:`PrepareScan`.
        rule: How predictions are cleaned; None if not at all.
    """

    def __init__(self, plan: Mapping[str, Any], rule: Mapping[str, Any] | None) -> None:
        self.plan, self.rule = Plan.load(plan), None if rule is None else ComponentRule.load(rule)

    def __call__(self, item: Item) -> Item:
        """Replace the probabilities under ``pred`` by the mask (z, y, x) in the values of the data set."""
        record = item["record"]
        probabilities = restore_probabilities(item["pred"].cpu().numpy(), record)
        classes = torch.from_numpy(probabilities).max(dim=0)[1].to(torch.uint8).numpy()
        cleaned, _ = clean(classes, self.rule, prod(record["spacing"]), int(record["axes"][0]))
        return {**item, "pred": _in_small_type(np.array(self.plan.label_values))[cleaned]}


class SaveMask:
    """Write masks as NIfTI files, named by their scans, with their headers.

    Args:
        folder: Where to.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def __call__(self, item: Item) -> Item:
        """Write the mask under ``pred``, and put its path under ``file``."""
        scan, mask = Path(item["files"][0]), item["pred"]
        stem = _stem(scan)
        match = _CHANNEL.fullmatch(stem) if len(item["files"]) > 1 else None
        file = self.folder / f"{match['case'] if match else stem}.nii.gz"
        self.folder.mkdir(parents=True, exist_ok=True)
        header = nibabel.load(scan).header.copy()
        header.set_data_dtype(mask.dtype)
        header["cal_min"] = header["cal_max"] = 0
        header["scl_slope"], header["scl_inter"] = 1, 0
        for name in _FREE_TEXT:
            if name in set(header.keys()):
                header[name] = b""
        header.extensions.clear()
        voxels = mask.transpose(2, 1, 0)
        if int(header["dim"][0]) == 2:
            voxels = voxels[..., 0]
        kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
        nibabel.save(kind(np.ascontiguousarray(voxels), None, header), file)
        return {**item, "file": str(file)}


def read_scan(files: Sequence[Path]) -> Volume:
    """A scan of one file for each channel, or of one 4D file with all of them.

    Raises:
        ValueError: If they do not lie on one grid, or an image has other than 2 to 4 axes.
    """
    images = [sitk.ReadImage(str(file)) for file in files]
    arrays, geometry = [], None
    for file, image in zip(files, images, strict=True):
        axes = image.GetDimension()
        if axes not in {2, 3, 4} or image.GetNumberOfComponentsPerPixel() > 1:
            raise ValueError(f"{file} must be an image of 2 to 4 axes with one value per voxel")
        array = sitk.GetArrayFromImage(image).astype(np.float32)
        array = array if axes == 4 else array.reshape(1, *(1,) * (3 - axes), *array.shape)
        arrays.append(array)
        own = _geometry(image, array.shape[1:])
        if geometry is not None and (own.shape != geometry.shape or not _same_place(own, geometry)):
            raise ValueError(f"{file} does not lie on the grid of {files[0]}")
        geometry = geometry or own
    if geometry is None:
        raise ValueError("a scan has at least one file")
    return Volume(np.concatenate(arrays), geometry, tuple(files))


def with_weights(network: Segmenter, file: str) -> Segmenter:
    """The networks with the weights of a file, for prediction."""
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return network.eval()


def run(
    scans: Iterable[Sequence[str] | str],
    preprocessing: Callable[[Item], Item],
    network: Segmenter,
    inferer: Callable[[Tensor, Segmenter], Tensor],
    postprocessing: Callable[[Item], Item],
) -> list[str]:
    """Segment scans one after the other; returns the paths of their masks.

    Args:
        scans: The file of each, or its files, one for each channel.
        preprocessing: As ``inference.json`` has it; so the others.
        network: On the device where it is to compute.
        inferer: Applies it.
        postprocessing: Makes and writes the mask.
    """
    device = next(network.parameters()).device
    masks = []
    for scan in scans:
        item = preprocessing({"image": [scan] if isinstance(scan, str) else list(scan)})
        item["pred"] = inferer(item["image"][None].to(device), network)[0]
        masks.append(postprocessing(item)["file"])
    return masks


def _geometry(image: Any, shape: Sequence[int]) -> Geometry:
    axes = image.GetDimension()
    inner = min(axes, 3)
    direction = np.eye(3)
    direction[:inner, :inner] = np.asarray(image.GetDirection()).reshape(axes, axes)[:inner, :inner]
    x, y, z = (*image.GetSpacing(), 1.0)[:3]
    origin = (*image.GetOrigin(), 0.0)[:3]
    depth, height, width = shape
    return Geometry((depth, height, width), (z, y, x), origin, tuple(direction.ravel().tolist()))


def _same_place(one: Geometry, two: Geometry) -> bool:
    return bool(np.abs(one.corners() - two.corners()).max() <= 0.5 * min(two.spacing))


def _in_small_type(values: NDArray[np.int64]) -> NDArray[Any]:
    kinds = (np.uint8, np.int16, np.int32)
    fitting = (kind for kind in kinds if np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max)
    return values.astype(next(fitting, np.int64))


def _stem(path: Path) -> str:
    return next((path.name[: -len(suffix)] for suffix in _SUFFIXES if path.name.endswith(suffix)), path.stem)
