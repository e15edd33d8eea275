"""Scans that are in a data set twice, by their voxels: under two subjects they would be in two parts of a split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.io.catalog_paths import files_behind, shown
from fewlabel.data.io.composite_paths import Frame, parse_composite
from fewlabel.data.io.dicom.address import parse_dicom
from fewlabel.data.io.dicom.data_set_index import open_archive
from fewlabel.data.io.dicom.pixels import read_planes
from fewlabel.data.io.hdf5_and_npz_arrays import Address
from fewlabel.data.io.itk_log import reading
from fewlabel.data.io.volume_reading import read_volume
from fewlabel.data.scan_inspection import CaseFacts, in_threads

SameScans = Literal["refuse", "accept"]
#: Voxels before the slice that is compared first: what is packed has to be unpacked up to there.
_FURTHEST = 1 << 21
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_MOST = 5


@dataclass(frozen=True)
class _Image:
    """One channel of a scan: where its voxels are, and how many."""

    case: Case
    path: Path
    shape: tuple[int, int, int]

    @property
    def by_file(self) -> bool:
        """Whether files are compared instead of voxels: those of pictures and arrays, of which there are many."""
        if parse_dicom(self.path) is not None:
            # Headers of equal images differ.
            return False
        files = files_behind(self.path)
        pictures = all(file.name.lower().endswith(_PICTURES) for file in files)
        return pictures or len(files) > 1 or Address.parse(self.path) is not None


def equal_scans(
    catalog: Catalog, facts: Sequence[CaseFacts], workers: int, same_scans: SameScans = "refuse"
) -> tuple[list[Fault], list[str]]:
    """Scans with equal voxels: a fault for each group of different subjects, and notes on the others.

    Images of one shape are compared by one slice, and read whole where that is equal; so are the voxels of files that
    were compressed differently. Pictures and arrays of HDF5 are compared by the content of their files. Images of one
    value are no evidence.

    Args:
        catalog: The data set.
        facts: Of its readable scans.
        workers: Threads.
        same_scans: ``accept`` for a note instead of a fault.
    """
    images = [
        _Image(fact.case, path, fact.geometry.shape)
        for fact in facts
        if fact.geometry is not None
        for path in fact.case.images
    ]
    groups = _split([images], _size, 1)
    groups = _split(groups, _first_look, workers)
    groups = _split(groups, _content, workers)
    faults: list[Fault] = []
    across: list[str] = []
    within: list[str] = []
    told: set[frozenset[str]] = set()
    for group in sorted(groups, key=lambda group: group[0].case.id):
        cases = list({image.case.id: image.case for image in group}.values())
        ids, subjects = frozenset(case.id for case in cases), {case.subject for case in cases}
        if ids in told:
            continue
        told.add(ids)
        if len(cases) == 1:
            within.append(f"{len(group)} channels of {cases[0].id}")
        elif len(subjects) == 1:
            within.append(_names([case.id for case in cases]))
        elif same_scans == "accept" or any(subjects <= known for known in catalog.known_equal):
            across.append(_names([f"{case.id} of {case.subject}" for case in cases]))
        else:
            named = _names([f"{shown(image.path)} (subject {image.case.subject})" for image in group])
            remedy = (
                "Give them one subject or take all but one out; prepare.same_scans=accept keeps them as different "
                "persons"
            )
            faults.append(Fault(f"{named} hold the same voxels", str(catalog.root), remedy))
    notes = [f"equal voxels under different subjects, left as they are: {_listed(across)}"] if across else []
    notes += [f"equal voxels twice: {_listed(within)}"] if within else []
    return faults, notes


def _split(groups: Iterable[list[_Image]], key: Callable[[_Image], Any], workers: int) -> list[list[_Image]]:
    """Groups parted by a key; what is alone in its group is left out, and so is what has no key."""
    parted: dict[tuple[int, Any], list[_Image]] = defaultdict(list)
    numbered = [(number, image) for number, group in enumerate(groups) for image in group]
    keys = in_threads(lambda pair: key(pair[1]), numbered, workers)
    for (number, image), mark in zip(numbered, keys, strict=True):
        if mark is not None:
            parted[number, mark].append(image)
    return [group for group in parted.values() if len(group) > 1]


def _size(image: _Image) -> Any:
    if not image.by_file:
        return image.shape
    try:
        return image.shape, tuple(file.stat().st_size for file in files_behind(image.path))
    except OSError:
        return None


def _first_look(image: _Image) -> str | None:
    """Digest of one slice, or of the files."""
    if image.by_file:
        try:
            return _digest(*(file.read_bytes() for file in files_behind(image.path)))
        except OSError:
            return None
    depth, rows, columns = image.shape
    index = min(depth // 2, _FURTHEST // max(1, rows * columns))
    try:
        return _digest(_slice(image.path, index))
    except (RuntimeError, DataError):
        # What only our own reading understands is read whole.
        return _content(image)


def _content(image: _Image) -> str | None:
    """Digest of all voxels; None for an image of one value, or one that cannot be read."""
    try:
        array = read_volume(image.path).array
    except DataError:
        return None
    planes = [plane for channel in array for plane in channel]
    low = min((float(plane.min(where=np.isfinite(plane), initial=np.inf)) for plane in planes), default=np.inf)
    high = max((float(plane.max(where=np.isfinite(plane), initial=-np.inf)) for plane in planes), default=-np.inf)
    return None if low >= high else _digest(array)


def _slice(path: Path, index: int) -> Any:
    """One slice of a file, or of a DICOM series, as float32."""
    if (dicom := parse_dicom(path)) is not None:
        series = open_archive(dicom.root).series(dicom.scan)
        return read_planes(series.planes[index : index + 1], series.where)
    composite = parse_composite(path)
    frame = composite.index if isinstance(composite, Frame) else 0
    file = composite.file if isinstance(composite, Frame) else path
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    with reading(file):
        reader.ReadImageInformation()
        size = reader.GetSize()
        reader.SetExtractSize([*size[:2], 1, *([0] * (len(size) - 3))])
        reader.SetExtractIndex([0, 0, index, *([frame] * (len(size) - 3))])
        return sitk.GetArrayFromImage(reader.Execute()).astype(np.float32)


def _digest(*parts: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()


def _names(names: Sequence[str]) -> str:
    shown_names = names[:_MOST]
    more = [f"{len(names) - _MOST} more"] if len(names) > _MOST else []
    *others, last = [*shown_names, *more]
    return f"{', '.join(others)} and {last}"


def _listed(texts: Sequence[str]) -> str:
    return "; ".join(texts[:_MOST]) + (f"; and {len(texts) - _MOST} more" if len(texts) > _MOST else "")
