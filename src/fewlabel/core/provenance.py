"""What made a result: versions of libraries, commit of the sources, and the machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any


def library_versions() -> dict[str, str]:
    """Versions of this package and of the libraries that decide its numbers."""
    names = ("fewlabel", "torch", "lightning-fabric", "monai", "SimpleITK", "numpy", "scipy")
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


@cache
def _version(name: str) -> str:
    """Of an installed package; what is loaded stays the same as long as the process lives."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def git_revision() -> str:
    """Commit of the source tree this package runs from, with ``+`` if changed; empty outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""

    if shutil.which("git") is None or not git("ls-files", "--error-unmatch", __file__):
        return ""
    revision = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", str(here.parent))
    return revision + ("+" if revision and changed else "")


def machine_facts() -> dict[str, Any]:
    """Processor, cores, threads and load: what a timing needs beside it; without torch loaded there is one thread."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = named[0] if named else model
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    torch = sys.modules.get("torch")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": 1 if torch is None else int(torch.get_num_threads()),
        "load": load,
        "system": platform.system(),
    }
