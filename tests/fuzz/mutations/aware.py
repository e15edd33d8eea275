"""Mutations that know what a file means, by the end of its name; of what none knows, blind ones."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fuzz.mutations import arrays, chunked_pictures, dicom, nifti, tables, tensors, text_headers, trees_of_values
from fuzz.mutations.blind import blind

Mutation = Callable[[bytes, Random], tuple[bytes, str]]

BY_ENDING: dict[str, Mutation] = {
    ".nii.gz": nifti.packed,
    ".nii": nifti.plain,
    ".hdr": nifti.plain,
    ".nrrd": text_headers.nrrd,
    ".nhdr": text_headers.nrrd,
    ".mha": text_headers.metaimage,
    ".mhd": text_headers.metaimage,
    ".png": chunked_pictures.png,
    ".jpg": chunked_pictures.jpeg,
    ".tif": chunked_pictures.tiff,
    ".h5": arrays.hdf5,
    ".npz": arrays.npz,
    ".npy": arrays.npy,
    ".dcm": dicom.dicom,
    ".csv": tables.delimited,
    ".tsv": tables.delimited,
    ".txt": tables.lines,
    ".list": tables.lines,
    ".cfg": tables.lines,
    ".xlsx": tables.workbook,
    ".parquet": tables.parquet,
    ".json": trees_of_values.json_document,
    ".jsonl": trees_of_values.json_lines,
    ".yaml": trees_of_values.yaml_document,
    ".safetensors": tensors.safetensors,
}


def aware(name: str, content: bytes, rng: Random) -> tuple[bytes, str]:
    """Other content of a file, and what was done.

    Args:
        name: Of the file.
        content: Its bytes.
        rng: Decides.
    """
    ending = max((end for end in BY_ENDING if name.lower().endswith(end)), key=len, default="")
    if not ending:
        return blind(content, rng)
    try:
        return BY_ENDING[ending](content, rng)
    except Exception as error:  # noqa: BLE001  # what an earlier mutation spoilt, no later one can take apart
        changed, what = blind(content, rng)
        return changed, f"{what} ({type(error).__name__} on taking it apart)"
