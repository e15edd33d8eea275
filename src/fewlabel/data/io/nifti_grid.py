"""What a NIfTI header says of the place of its voxels: voxel sizes, sform and qform, and what is wrong with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.printable import significant
from fewlabel.data.io.nifti_bytes import BITS
from fewlabel.data.io.voxel_size import size_problem

_HALF = 0.5
_MOST_AXES = 7
_AGAIN = "Copy or export it again"
_MIRROR = np.diag([-1.0, -1.0, 1.0])


def nifti_problems(content: bytes, *, single: bool) -> list[tuple[str, str]]:
    """What is wrong with the place of the voxels, in the file and in the patient, and what to do about it.

    Args:
        content: The beginning of the file, as :attr:`fewlabel.data.io.nifti_bytes.Header.content`.
        single: Whether the voxels follow in the same file, as they never do in Analyze.
    """
    header = _header(content)
    if single and content[344:347] != b"n+1" and content[4:6] != b"n+":
        problem = f"its header does not say that it is NIfTI: it has {content[344:348]!r} where the mark n+1 belongs"
        return [(problem, _AGAIN)]
    if problems := _shape_problems(header):
        return problems
    count = min(3, int(header["dim"][0]))
    sides = [int(side) for side in header["dim"][1 : 1 + count]]
    steps = [float(step) for step in header["pixdim"][1 : 1 + count]]
    # The size of a single slice across it is often not given, and matters little.
    known = [step for step, side in zip(steps, sides, strict=True) if side > 1]
    problem = size_problem(known)
    if problem:
        return [(f"{problem}, in pixdim of its header", "Correct the header")]
    codes = _codes(header)
    problems = [
        (f"{name} holds numbers that are not finite", f"Correct its header, or set {name}_code to 0")
        for name in codes
        if not np.isfinite(_form(header, name)).all()
    ]
    # Of an axis of one slice the qform says it too, and of a picture that has no step across it nobody asks for it.
    alone = codes == ["sform"] and (count > 2 or float(header["pixdim"][3]) != 0)
    asked = [axis for axis, side in enumerate([*sides, 1, 1][:3]) if side > 1 or alone]
    problems = problems or [
        (f"{name} gives an axis no direction", f"Correct its header, or set {name}_code to 0")
        for name in codes
        if not np.linalg.norm(_form(header, name)[:3, asked], axis=0).all()
    ]
    if problems or len(codes) < 2:
        return problems
    sform, qform = (_form(header, name) for name in ("sform", "qform"))
    steps_mm = np.array([step or 1.0 for step in (*steps, 1.0, 1.0, 1.0)[:3]])
    apart = _apart(sform, qform, [*sides, 1, 1, 1][:3])
    if apart <= _HALF * float(np.abs(steps_mm[: max(1, count)]).min()):
        return []
    return [
        (
            f"its sform and its qform disagree: their corners are up to {significant(apart)} mm apart. "
            f"sform (code {int(header['sform_code'])}) is {_shown(sform)}, "
            f"qform (code {int(header['qform_code'])}) is {_shown(qform)}",
            "Set the code of the wrong one to 0 in the header, in scan and mask alike",
        )
    ]


def _shape_problems(header: Any) -> list[tuple[str, str]]:
    """What the NIfTI library in ITK refuses a header for, and says so on the terminal itself."""
    axes, first, kind = int(header["dim"][0]), int(header["dim"][1]), int(header["datatype"])
    problems = []
    if not np.isfinite(float(header["vox_offset"])):
        problems.append(("vox_offset in its header is not a finite number", "Correct the header"))
    if not 1 <= axes <= _MOST_AXES:
        problems.append((f"its header gives it {axes} axes, where it may have 1 to {_MOST_AXES}", _AGAIN))
    elif first <= 0:
        problems.append((f"its first axis has {first} voxels, by its header", _AGAIN))
    if BITS.get(kind, 1) == 1:
        # Voxels of one bit are in the standard, and nobody reads them.
        problems.append((f"its voxels are of type {kind}, by its header, which nobody reads", _AGAIN))
    return problems


def file_steps(content: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The step (3, 3) in mm along each file axis, one per column, and the place of the first voxel.

    As ITK has it: the sform counts where its code is that of the scanner or there is no qform, and gives the way the
    axes run; how long a step is, pixdim says.

    Args:
        content: As for :func:`nifti_problems`.

    Returns:
        Both in patient axes (left, posterior, superior).
    """
    header = _header(content)
    sizes = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    sizes = np.where(sizes > 0, sizes, 1.0)
    codes = _codes(header)
    if not codes:
        return np.diag(sizes), np.zeros(3)
    form = _form(header, "sform" if "qform" not in codes or int(header["sform_code"]) == 1 else "qform")
    units = form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0)
    # Units of the header as ITK takes them: metres and thousandths of a millimetre become millimetres.
    scale = {1: 1000.0, 3: 0.001}.get(int(header["xyzt_units"]) & 7, 1.0)
    return _MIRROR @ (units * sizes) * scale, _MIRROR @ form[:3, 3] * scale


def _codes(header: Any) -> list[str]:
    if "sform_code" not in set(header.keys()) or bytes(header["magic"].tobytes())[:1] != b"n":
        return []
    return [name for name in ("sform", "qform") if int(header[f"{name}_code"]) > 0]


def _form(header: Any, name: str) -> NDArray[np.float64]:
    if name == "sform":
        return np.asarray(header.get_sform(), dtype=np.float64)
    # As the NIfTI library does it, which takes more than nibabel: a first pixdim of 0, and a rotation that is too long.
    b, c, d = (float(header[f"quatern_{letter}"]) for letter in "bcd")
    length = b * b + c * c + d * d
    if length > 1:
        # Of an infinite one nothing is finite, which is said.
        b, c, d = (value / math.sqrt(length) if math.isfinite(length) else math.nan for value in (b, c, d))
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    sizes = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    sizes = np.where(sizes > 0, sizes, 1.0) * (1, 1, -1 if float(header["pixdim"][0]) < 0 else 1)
    form = np.eye(4)
    form[:3, :3] = turn * sizes
    form[:3, 3] = [float(header[f"qoffset_{letter}"]) for letter in "xyz"]
    return form


def _apart(sform: NDArray[np.float64], qform: NDArray[np.float64], sides: list[int]) -> float:
    ends = np.stack(np.meshgrid(*[(0, max(0, side - 1)) for side in sides], indexing="ij"), -1).reshape(-1, 3)
    units = np.linalg.norm(qform[:3, :3], axis=0) / np.maximum(np.linalg.norm(sform[:3, :3], axis=0), 1e-12)
    # Scales are taken from pixdim, whatever the sform says: what differs is the way the axes run, and the place.
    steps = sform[:3, :3] * units - qform[:3, :3]
    return float(np.linalg.norm(ends @ steps.T + sform[:3, 3] - qform[:3, 3], axis=1).max())


def _shown(form: NDArray[np.float64]) -> str:
    rows = "; ".join(" ".join(f"{value + 0.0:.4g}" for value in row) for row in form[:3])
    return f"[{rows}]"


def _header(content: bytes) -> Any:
    import nibabel

    for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        if kind.may_contain_header(content):
            return kind(content[: kind.sizeof_hdr], check=False)
    return nibabel.AnalyzeHeader(content[: nibabel.AnalyzeHeader.sizeof_hdr], check=False)
