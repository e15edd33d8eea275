"""What keeping freed memory mapped is worth on the CPU: one SimCLR-like encoder step with and without it."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys, time, statistics, torch
from fewlabel.engine.runtime import fast_kernels, has_bf16
from fewlabel.nets.unet import UNetConfig, UNetEncoder
if sys.argv[1] == "kept": fast_kernels("cpu")
encoder = UNetEncoder(UNetConfig(width=16)).to(memory_format=torch.channels_last)
images = torch.randn(64, 1, 128, 128).to(memory_format=torch.channels_last)
def step():
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16("cpu")): features = encoder(images)[-1]
    torch.autograd.grad(features.float().square().mean(), list(encoder.parameters()))
    return time.perf_counter() - started
step(), step()
print(statistics.median([step() for _ in range(7)]))
"""


def run(results: Path) -> None:  # noqa: ARG001
    """Print seconds per step of both, medians over three processes each, and their ratio."""
    seconds: dict[str, list[float]] = {"default": [], "kept": []}
    for _ in range(3):
        for mode, values in seconds.items():
            done = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
            values.append(float(done.stdout.split()[-1]))
    default, kept = (statistics.median(seconds[mode]) for mode in ("default", "kept"))
    print(f"encoder_step default {default:.3f}s kept {kept:.3f}s ratio {default / kept:.2f}")
