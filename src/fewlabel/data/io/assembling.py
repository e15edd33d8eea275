"""Images and masks that are composed of several files, or are a part of one, read."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.composite import Coloured, Composite, Frame, Stack, Structures
from fewlabel.data.io.geometry import Geometry, grid_faults
from fewlabel.data.io.itk_image import read_channels, read_header, read_image
from fewlabel.data.io.mask_file import read_mask_file, several_channels, whole_numbers

_UPRIGHT = tuple(np.eye(3).ravel().tolist())
_MOST_COLOURS = 5


def assembled_geometry(composite: Composite) -> Geometry:
    """Where the voxels lie, from headers alone.

    Raises:
        DataError: If a file cannot be read, or the files do not fit each other.
    """
    headers = [read_header(file) for file in composite.files]
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
        read = [read_channels(file) for file in composite.files]
        geometry = _stack_geometry(composite, [header for _, header in read])
        return np.concatenate([array for array, _ in read], axis=1), geometry
    fault = Fault(f"{composite} is a mask, not an image", remedy="Name it as the label")
    raise DataError("A scan cannot be used:", [fault])


def assembled_mask(composite: Composite, notes: list[str]) -> NDArray[np.int64]:
    """Whole numbers (z, y, x).

    Args:
        composite: The mask.
        notes: Takes what is unusual and does no harm, such as structures that overlap.

    Raises:
        DataError: If a file cannot be read, the files do not fit each other, or a picture has a colour of no class.
    """
    if isinstance(composite, Structures):
        return _joined(composite, notes)
    if isinstance(composite, Coloured):
        return _classes_of_colours(composite)
    if isinstance(composite, Frame):
        _frame_geometry(composite, read_header(composite.file))
        return whole_numbers(composite.file, read_channels(composite.file, composite.index)[0][0])
    _stack_geometry(composite, [read_header(file) for file in composite.files])
    return np.concatenate([read_mask_file(file) for file in composite.files])


def _frame_geometry(frame: Frame, whole: Geometry) -> Geometry:
    if not 0 <= frame.index < whole.components:
        problem = f"has {whole.components} frames, so there is no frame {frame.index + 1}"
        raise DataError("A scan cannot be used:", [Fault(problem, str(frame.file))])
    return Geometry(**{**vars(whole), "components": 1})


def _stack_geometry(stack: Stack, slices: list[Geometry]) -> Geometry:
    first = slices[0]
    faults = [
        Fault(f"has shape {each.shape[1:]}, but {stack.files[0]} has {first.shape[1:]} (y, x)", str(file))
        for file, each in zip(stack.files, slices, strict=True)
        if each.shape[1:] != first.shape[1:]
    ]
    faults.extend(
        Fault(f"has {each.components} channels, but {stack.files[0]} has {first.components}", str(file))
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
    shape = (len(slices), *first.shape[1:])
    return Geometry(shape, spacing, (0.0, 0.0, 0.0), _UPRIGHT, first.components)


def _on_one_grid(composite: Composite, headers: list[Geometry]) -> None:
    first, *others = composite.files
    faults = [
        fault
        for file, header in zip(others, headers[1:], strict=True)
        for fault in grid_faults(first, headers[0], file, header)
    ]
    if faults:
        raise DataError("The masks of a scan must share one grid:", faults)


def _joined(structures: Structures, notes: list[str]) -> NDArray[np.int64]:
    _on_one_grid(structures, [read_header(file) for file in structures.files])
    joined: NDArray[np.int64] | None = None
    for value, file in structures.parts:
        inside = read_mask_file(file) != 0
        if joined is None:
            joined = np.zeros(inside.shape, dtype=np.int64)
        taken = joined[inside]
        for before in np.unique(taken[taken != 0]).tolist():
            other = next(path for number, path in structures.parts if number == before)
            count = int((taken == before).sum())
            notes.append(f"{count} voxels lie in {other.name} and in {file.name}: the latter has them")
        joined[inside] = value
    if joined is None:
        raise ValueError("a mask of no structures")
    return joined


def _classes_of_colours(picture: Coloured) -> NDArray[np.int64]:
    image = read_image(picture.file)
    array = np.asarray(sitk.GetArrayViewFromImage(image))
    if image.GetNumberOfComponentsPerPixel() not in {3, 4}:
        problem = f"must have the colours red, green and blue, but has shape {array.shape}"
        raise DataError("A mask cannot be used:", [Fault(problem, str(picture.file))])
    if array.ndim > 4:
        raise DataError("A mask cannot be used:", [several_channels(picture.file, array.shape)])
    packed = _packed(array[..., :3])
    mask = np.full(packed.shape, -1, dtype=np.int64)
    for colour, value in picture.colours:
        mask[packed == _packed(np.array(colour))] = value
    strange = np.unique(packed[mask < 0]).tolist()
    if strange:
        shown = ", ".join(str(_unpacked(code)) for code in strange[:_MOST_COLOURS])
        more = f" and {len(strange) - _MOST_COLOURS} more" if len(strange) > _MOST_COLOURS else ""
        problem = f"has the colours {shown}{more}, which stand for no class"
        raise DataError("A mask cannot be used:", [Fault(problem, str(picture.file), "Name their classes")])
    return mask[None] if mask.ndim == 2 else mask


def _packed(colours: NDArray[np.integer]) -> NDArray[np.int64]:
    """Colours (..., 3) as one number each."""
    red, green, blue = np.moveaxis(colours.astype(np.int64), -1, 0)
    packed: NDArray[np.int64] = (red << 16) | (green << 8) | blue
    return packed


def _unpacked(code: int) -> tuple[int, int, int]:
    return code >> 16, code >> 8 & 255, code & 255
