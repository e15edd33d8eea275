"""Device, precision and processes, by lightning-fabric."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.settings.base import setting
from fewlabel.engine.stalled_processes import PATIENCE

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "32", "bf16"]
#: What a precision turns out to be, as manifests have it.
Resolved = Literal["32", "bf16-mixed"]


def thread_setting() -> Any:
    """The setting of stages that compute with networks, for :func:`use_threads`."""
    return setting(
        0,
        "threads to compute with: equal ones make two machines of the same kind agree to the bit; 0: as many as the "
        "process has, which are all cores unless OMP_NUM_THREADS is set",
        unit="threads",
        ge=0,
    )


def use_threads(count: int) -> None:
    """Compute with so many threads from now on, for sums are rounded by how they are shared out; 0 changes nothing."""
    if count:
        torch.set_num_threads(count)


def start(device: Device = "auto", precision: Precision = "auto", threads: int = 0) -> Fabric:
    """Start on a device, as one of the processes that ``torchrun`` launched, or alone.

    Args:
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        precision: ``auto`` runs the network in bfloat16 where the hardware computes in it, else in float32;
            losses are float32 always.
        threads: As for :func:`use_threads`.

    Raises:
        SettingsError: If the device is not there, or ``srun`` launched several of these.
    """
    # It loads torch's compiler, two seconds that no other command has to wait.
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    use_threads(threads)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if processes == 1 and tasks > 1:
        problem = f"must start one task per node, in which torchrun starts the processes, not {tasks} tasks"
        remedy = "Use srun --ntasks-per-node=1 torchrun --nproc_per_node N -m fewlabel ..."
        raise SettingsError("Each task would train alone:", [Fault(problem, "srun", remedy)])
    kind = choose_device(device)
    resolved = resolved_precision(precision, kind)
    # Fabric announces precision and advises on loaders we do not use.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fabric = Fabric(
            accelerator=kind,
            devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
            num_nodes=max(processes // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1),
            strategy=DDPStrategy(timeout=PATIENCE) if processes > 1 else "auto",
            precision="bf16-mixed" if resolved == "bf16-mixed" else "32-true",
            # Alone, whatever a scheduler reserved.
            plugins=[] if processes > 1 else [LightningEnvironment()],
        )
        fabric.launch()
    return fabric


def choose_device(device: Device) -> str:
    """The accelerator that ``device`` means here.

    Raises:
        SettingsError: If it is not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available[device]:
        present = ", ".join(kind for kind, there in available.items() if there)
        fault = Fault(f"{device} is not available, only {present}", "device", "Use device=auto")
        raise SettingsError("These settings are not valid:", [fault])
    return device


def resolved_precision(precision: Precision, kind: str) -> Resolved:
    """What networks compute in on a device: float32, or bfloat16 where it was asked for or the hardware has it.

    Args:
        precision: The setting.
        kind: The device, such as ``cpu`` or ``cuda``.
    """
    return "bf16-mixed" if precision == "bf16" or (precision == "auto" and has_bf16(kind)) else "32"


def has_bf16(kind: str) -> bool:
    """Whether the hardware computes in bfloat16, rather than emulating it."""
    if kind == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return kind == "cpu" and "avx512_bf16" in cpu_flags()


def cpu_flags() -> frozenset[str]:
    """What the processor can do, by the names of Linux; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return frozenset(word for line in lines if line.startswith(("flags", "Features")) for word in line.split()[2:])


def fast_kernels(kind: str) -> None:
    """Let the hardware run at its speed: tuned kernels on CUDA, memory that stays mapped on the CPU."""
    if kind == "cuda":
        # Matrix products in float32 stay float32: they are similarities and losses, and TF32 has ten bits.
        torch.backends.cudnn.benchmark = True
    elif kind == "cpu":
        _keep_memory()


def _keep_memory() -> None:
    """Ask glibc to reuse freed blocks of any size.

    By default it hands large blocks back to the kernel, so that each training step faults in and zeroes the pages
    of every activation anew, a large part of a step (``benchmarks/run.py --suite freed-memory``).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    keep_below, trim_above = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
    library.mallopt(keep_below, 1 << 30)
    library.mallopt(trim_above, (1 << 31) - 1)
