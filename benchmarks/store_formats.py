"""How fast a training step gets its slices out of each store format, and what each costs on disk.

    python benchmarks/store_formats.py [PREPARED]

Takes the images of a prepared folder, or synthetic slices of the same size, and measures writing,
reading one batch of random slices, and reading everything once. Formats that are not installed are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

BATCH = 64
REPEATS = 30


def synthetic(count: int = 1902, size: int = 128) -> np.ndarray:
    """Smooth slices with a few structures and some noise: they compress about as scans do."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size - 0.5
    slices = np.empty((count, 1, size, size), dtype=np.float16)
    for index in range(count):
        radius = 0.1 + 0.2 * rng.random()
        slices[index, 0] = np.clip((np.hypot(x, y) < radius) * 0.6 + 0.3 + 0.05 * rng.normal(size=(size, size)), 0, 1)
    return slices


def npy(folder: Path, array: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Plain memory map."""
    np.save(folder / "a.npy", array)
    stored = np.load(folder / "a.npy", mmap_mode="r")
    return lambda rows: np.asarray(stored[rows])


def npz(folder: Path, array: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Zip with deflate: the whole array is unpacked for any row."""
    np.savez_compressed(folder / "a.npz", a=array)
    return lambda rows: np.load(folder / "a.npz")["a"][rows]


def hdf5(folder: Path, array: np.ndarray, **options: Any) -> Callable[[np.ndarray], Any]:
    """HDF5, one chunk per slice."""
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("a", data=array, chunks=(1, *array.shape[1:]), **options)
    stored = h5py.File(folder / "a.h5")["a"]
    return lambda rows: stored[np.sort(rows)]


def zarr(folder: Path, array: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Zarr with its default compressor, 16 slices per chunk."""
    import zarr as library

    stored = library.open_array(
        folder / "a.zarr", mode="w", shape=array.shape, chunks=(16, *array.shape[1:]), dtype=array.dtype
    )
    stored[:] = array
    return lambda rows: stored.oindex[np.sort(rows)]


def blosc2(folder: Path, array: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Blosc2 with its default compressor, one block per slice."""
    import blosc2 as library

    stored = library.asarray(
        array,
        urlpath=str(folder / "a.b2nd"),
        mode="w",
        chunks=(16, *array.shape[1:]),
        blocks=(1, *array.shape[1:]),
    )
    return lambda rows: np.stack([stored[int(row)] for row in rows])


FORMATS: dict[str, tuple[str, Callable[..., Any]]] = {
    "npy memory map": ("numpy", npy),
    "npz deflate": ("numpy", npz),
    "hdf5 plain": ("h5py", hdf5),
    "hdf5 gzip": ("h5py", lambda folder, array: hdf5(folder, array, compression="gzip", shuffle=True)),
    "zarr": ("zarr", zarr),
    "blosc2": ("blosc2", blosc2),
}


def measure(name: str, array: np.ndarray) -> str:
    """One line of the table."""
    package, make = FORMATS[name]
    if importlib.util.find_spec(package) is None:
        return f"| {name} | not installed | | | |"
    folder = Path(tempfile.mkdtemp())
    try:
        started = time.perf_counter()
        read = make(folder, array)
        write = time.perf_counter() - started
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
        rng = np.random.default_rng(0)
        times = []
        repeats = 3 if name == "npz deflate" else REPEATS
        for _ in range(repeats):
            rows = rng.choice(len(array), BATCH, replace=False)
            started = time.perf_counter()
            read(rows)
            times.append(time.perf_counter() - started)
        started = time.perf_counter()
        whole = read(np.arange(len(array)))
        everything = time.perf_counter() - started
        if not np.array_equal(whole, array):
            message = f"{name} gave other values back"
            raise ValueError(message)
        return f"| {name} | {size:.0f} | {write:.2f} | {1000 * median(times):.2f} | {everything:.2f} |"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prepared", nargs="?", type=Path, help="a prepared folder; synthetic slices without one")
    prepared = parser.parse_args().prepared
    array = np.load(prepared / "images.npy") if prepared else synthetic()
    print(f"{array.shape} {array.dtype}, {array.nbytes / 2**20:.0f} MB, load {os.getloadavg()[0]:.1f}")
    print(f"| format | MB on disk | write, s | batch of {BATCH} random slices, ms | everything, s |")
    print("|---|---|---|---|---|")
    for name in FORMATS:
        print(measure(name, array), flush=True)


if __name__ == "__main__":
    main()
