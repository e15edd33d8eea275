"""Images and masks that are composed of several files, or are a part of one, read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.composite_paths import Coloured, Composite, Frame, Segments, Stack, Structures
from fewlabel.data.io.geometry import Geometry, grid_faults
from fewlabel.data.io.integer_types import integer_type
from fewlabel.data.io.itk_image import checked, read_channels, read_header, read_image
from fewlabel.data.io.mask_colours import nameless_fault, packed
from fewlabel.data.io.mask_file import read_mask_file, several_channels, whole_numbers
from fewlabel.data.io.slicer_segmentation import read_segmentation

_File = TypeVar("_File")
_Content = TypeVar("_Content")
_UPRIGHT = tuple(np.eye(3).ravel().tolist())
_OF_ONE_SIZE = "Export it in the size of the other slices of its scan, or take it out"
_OF_ONE_KIND = "Export it as the other slices of its scan are"


def assembled_geometry(composite: Composite) -> Geometry:
    """Where the voxels lie, from headers alone.

    Raises:
        DataError: If a file cannot be read, or the files do not fit each other.
    """
    if isinstance(composite, Coloured) and (stack := composite.stack) is not None:
        return Geometry(**{**vars(assembled_geometry(stack)), "components": 1})
    headers = _of_each(composite.files, read_header)
    if isinstance(composite, Frame):
        return _frame_geometry(composite, headers[0])
    if isinstance(composite, Stack):
        return _stack_geometry(composite, headers)
    _on_one_grid(composite, headers)
    return Geometry(**{**vars(headers[0]), "components": 1})


def assembled_image(composite: Composite) -> tuple[NDArray[np.float32], Geometry]:
    """Intensities (channels, z, y, x), and where they lie.

    Raises:
        DataError: If a file cannot be read, or the files do not fit each other.
    """
    if isinstance(composite, Frame):
        geometry = _frame_geometry(composite, read_header(composite.file))
        return read_channels(composite.file, composite.index)[0], geometry
    if isinstance(composite, Stack):
        whole = np.empty((0, 0, 0, 0), dtype=np.float32)

        def laid(place: tuple[int, Path]) -> Geometry:
            nonlocal whole
            number, file = place
            array, header = read_channels(file)
            if number == 0:
                whole = np.empty((len(array), len(composite.files), *array.shape[2:]), dtype=np.float32)
            if array.shape == (len(whole), 1, *whole.shape[2:]):
                whole[:, number] = array[:, 0]
            return header

        # What has another shape is told by the headers, all of it at once.
        geometry = _stack_geometry(composite, _of_each(list(enumerate(composite.files)), laid))
        return whole, geometry
    fault = Fault(f"{composite} is a mask, not an image", remedy="Name it as the label")
    raise DataError("A scan cannot be used:", [fault])


def assembled_mask(composite: Composite, notes: list[str], grid: Geometry | None = None) -> NDArray[np.integer[Any]]:
    """Whole numbers (z, y, x).

    Args:
        composite: The mask.
        notes: Takes what is unusual and does no harm, such as structures that overlap.
        grid: Of its scan.

    Raises:
        DataError: If a file cannot be read, the files do not fit each other, or a picture has a colour of no class.
    """
    if isinstance(composite, Structures):
        return _joined(composite, notes)
    if isinstance(composite, Segments):
        return read_segmentation(composite.file, notes, grid, dict(composite.values))
    if isinstance(composite, Coloured):
        slices = [Coloured(file, composite.colours) for file in composite.files]
        return _with_empty_slices(_of_each(slices, _classes_of_colours), composite.stack)
    if isinstance(composite, Frame):
        _frame_geometry(composite, read_header(composite.file))
        return whole_numbers(composite.file, read_channels(composite.file, composite.index)[0][0], notes)
    _stack_geometry(composite, _of_each(composite.files, read_header))
    return _with_empty_slices(_of_each(composite.files, lambda file: read_mask_file(file, notes)), composite)


def _with_empty_slices(masks: Sequence[NDArray[np.integer[Any]]], stack: Stack | None) -> NDArray[np.integer[Any]]:
    """Masks of slices as one, with zeros where a slice of the stack has no file."""
    joined = np.concatenate(masks)
    if stack is None or not stack.without:
        return joined
    whole = np.zeros((len(stack.slices), *joined.shape[1:]), dtype=joined.dtype)
    whole[[place for place, file in enumerate(stack.slices) if file is not None]] = joined
    return whole


def _of_each(files: Sequence[_File], read: Callable[[_File], _Content]) -> list[_Content]:
    """What is read of each file; what is wrong with all of them is raised at once."""
    contents: list[_Content] = []
    faults: list[Fault] = []
    for file in files:
        try:
            contents.append(read(file))
        except DataError as error:
            faults.extend(error.faults)
    if faults:
        raise DataError("Files of a scan cannot be read:", faults)
    return contents


def _frame_geometry(frame: Frame, whole: Geometry) -> Geometry:
    if not 0 <= frame.index < whole.components:
        problem = f"has {whole.components} frames, so there is no frame {frame.index + 1}"
        raise DataError("A scan cannot be used:", [Fault(problem, str(frame.file))])
    blank = (0,) if frame.index in whole.blank else ()
    return Geometry(**{**vars(whole), "components": 1, "frames": 1, "blank": blank})


def _stack_geometry(stack: Stack, slices: list[Geometry]) -> Geometry:
    # The odd one out is named, wherever it stands.
    (usual, _), *_ = Counter((each.shape[1:], each.components) for each in slices).most_common(1)
    at = next(index for index, each in enumerate(slices) if (each.shape[1:], each.components) == usual)
    first, like = slices[at], stack.files[at]
    faults = [
        Fault(f"has shape {each.shape[1:]}, but {like} has {first.shape[1:]} (y, x)", str(file), _OF_ONE_SIZE)
        for file, each in zip(stack.files, slices, strict=True)
        if each.shape[1:] != first.shape[1:]
    ]
    faults.extend(
        Fault(f"has {each.components} channels, but {like} has {first.components}", str(file), _OF_ONE_KIND)
        for file, each in zip(stack.files, slices, strict=True)
        if each.components != first.components
    )
    faults.extend(
        Fault(f"must be one slice, but has {each.shape[0]}", str(file))
        for file, each in zip(stack.files, slices, strict=True)
        if each.shape[0] != 1
    )
    if faults:
        raise DataError("A stack of slices cannot be used:", faults)
    spacing = stack.spacing or (1.0, *first.spacing[1:])
    shape = (len(stack.slices), *first.shape[1:])
    blank = tuple(number for number in first.blank if all(number in each.blank for each in slices))
    return Geometry(shape, spacing, (0.0, 0.0, 0.0), _UPRIGHT, first.components, blank=blank)


def _on_one_grid(composite: Composite, headers: list[Geometry]) -> None:
    first, *others = composite.files
    faults = [
        fault
        for file, header in zip(others, headers[1:], strict=True)
        for fault in grid_faults(first, headers[0], file, header)
    ]
    if faults:
        raise DataError("The masks of a scan must share one grid:", faults)


def _joined(structures: Structures, notes: list[str]) -> NDArray[np.integer[Any]]:
    _on_one_grid(structures, [read_header(file) for file in structures.files])
    joined: NDArray[np.integer[Any]] | None = None
    for value, file in structures.parts:
        inside = read_mask_file(file, notes) != 0
        if joined is None:
            joined = np.zeros(inside.shape, dtype=integer_type(number for number, _ in structures.parts))
        taken = joined[inside]
        for before in np.unique(taken[taken != 0]).tolist():
            other = next(path for number, path in structures.parts if number == before)
            count = int((taken == before).sum())
            notes.append(f"{count} voxels lie in {other.name} and in {file.name}: the latter has them")
        joined[inside] = value
    if joined is None:
        raise ValueError("a mask of no structures")
    return joined


def _classes_of_colours(picture: Coloured) -> NDArray[np.integer[Any]]:
    """Of a grey picture, grey counts as a colour; of a lossy one, the nearest colour counts."""
    image = read_image(picture.file)
    array = np.asarray(sitk.GetArrayViewFromImage(image))
    components = image.GetNumberOfComponentsPerPixel()
    if components == 1 and array.dtype == np.uint8:
        array = np.stack([array] * 3, axis=-1)
    elif components not in {3, 4}:
        problem = f"must have the colours red, green and blue, but has shape {array.shape}"
        raise DataError("A mask cannot be used:", [Fault(problem, str(picture.file))])
    if array.ndim > 4:
        raise DataError("A mask cannot be used:", [several_channels(picture.file, array.shape)])
    facts = checked(picture.file).picture
    if facts is not None and facts.lossy:
        mask = _nearest(array[..., :3], picture)
        return mask[None] if mask.ndim == 2 else mask
    codes = packed(array[..., :3])
    mask = np.full(codes.shape, -1, dtype=np.int64)
    known = np.zeros(codes.shape, dtype=bool)
    for colour, value in picture.colours:
        here = codes == packed(np.array(colour))
        mask[here] = value
        known |= here
    strange = np.unique(codes[~known]).tolist()
    if strange:
        raise DataError("A mask cannot be used:", [nameless_fault(picture.file, strange)])
    return mask[None] if mask.ndim == 2 else mask


def _nearest(pixels: NDArray[np.integer], picture: Coloured) -> NDArray[np.integer[Any]]:
    """The value of the colour that each pixel is nearest to, the first of equal ones."""
    values = np.array([value for _, value in picture.colours], dtype=np.int64)
    apart = np.stack(
        [((pixels.astype(np.int64) - np.array(colour)) ** 2).sum(axis=-1) for colour, _ in picture.colours]
    )
    nearest: NDArray[np.int64] = values[apart.argmin(axis=0)]
    return nearest
