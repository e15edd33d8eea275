"""DICOM segmentations (SEG), written by highdicom: masks as frames on the slices of the series that they are of."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.dicom.quiet_pydicom import code_dictionary
from fewlabel.data.io.dicom.result_headers import check_identity, filled, series_number, version, writing
from fewlabel.data.io.dicom.series import Series
from fewlabel.data.io.dicom.structure_headers import MAKER
from fewlabel.data.io.label_tables import Label
from fewlabel.data.io.shear import put_back

#: ``BINARY`` has a frame of bits for each structure and slice, ``LABELMAP`` one of numbers for each slice.
Kind = Literal["BINARY", "LABELMAP"]
_WHAT = "a DICOM segmentation"


def write_segmentation(
    path: Path, mask: NDArray[np.integer[Any]], labels: Sequence[Label], series: Series, kind: Kind
) -> None:
    """Write a mask of a series as a DICOM segmentation; its empty slices are left out.

    Patient and study are those of the series. Every structure is coded as tissue, as nothing but its name is known.

    Args:
        path: Where to.
        mask: (z, y, x) on the grid of :meth:`fewlabel.data.io.dicom.series.Series.read`: numbers of ``labels``, 0
            elsewhere.
        labels: The segments, numbered from 1.
        series: What was segmented.
        kind: Type of the segmentation.

    Raises:
        DataError: If highdicom is not installed, or the series lacks what a segmentation needs.
    """
    if find_spec("highdicom") is None:
        fault = Fault("needs the package highdicom", "format", "Install what writes it: pip install 'fewlabel[dicom]'")
        raise DataError("A mask cannot be written:", [fault])
    check_identity(series, _WHAT)
    with writing(path, series, _WHAT) as partial:
        _segmentation(put_back(mask, series.geometry), labels, series, kind).save_as(partial)


def _segmentation(mask: NDArray[np.integer[Any]], labels: Sequence[Label], series: Series, kind: Kind) -> Any:
    import highdicom

    logging.getLogger("highdicom").setLevel(logging.CRITICAL)
    sources, stack = _with_sources(mask.astype(np.uint8 if len(labels) < 256 else np.uint16), series)
    number = series_number(sources[0])
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=stack,
        segmentation_type=kind,
        segment_descriptions=[_described(label, highdicom) for label in labels],
        series_instance_uid=highdicom.UID(),
        series_number=number,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=version(),
        device_serial_number=version(),
        content_label="SEGMENTATION",
        content_description="Segmentation by a network",
        series_description=f"Segmentation by {MAKER}",
        # With nothing to show there must still be a frame.
        omit_empty_frames=bool(stack.any()),
    )


def _with_sources(mask: NDArray[Any], series: Series) -> tuple[list[Any], NDArray[Any]]:
    """The headers of the files of a series, and the mask with a slice for each of their frames.

    Raises:
        DataError: If several files have several frames each.
    """
    frames = {plane.frames for plane in series.planes}
    if frames == {1}:
        return [filled(series.header(index)) for index in range(len(series.planes))], mask
    if len(series.files) > 1:
        problem = f"lies in {len(series.files)} files of several frames, and {_WHAT} is of one"
        fault = Fault(problem, series.where, "Leave out format: a NIfTI mask takes it")
        raise DataError("A mask cannot be written:", [fault])
    stack = np.zeros((series.planes[0].frames, *mask.shape[1:]), dtype=mask.dtype)
    for plane, slice_ in zip(series.planes, mask, strict=True):
        stack[plane.frame] = slice_
    return [filled(series.header(0))], stack


def _described(label: Label, highdicom: Any) -> Any:
    codes = code_dictionary()
    return highdicom.seg.SegmentDescription(
        segment_number=label.value,
        segment_label=label.name[:64],
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=MAKER, family=codes.cid7162.ArtificialIntelligence, version=version()
        ),
        display_color=highdicom.color.CIELabColor.from_rgb(*label.colour),
    )
