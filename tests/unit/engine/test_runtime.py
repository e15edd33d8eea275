"""Where a run computes, in what precision, and as how many."""

from __future__ import annotations

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.engine import runtime
from fewlabel.engine.runtime import fast_kernels, resolved_precision, start


def test_products_in_float32_stay_float32_on_cuda(monkeypatch):
    # They are similarities and losses; the flags can be set without a device.
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    before = torch.get_float32_matmul_precision()
    try:
        fast_kernels("cuda")
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.cudnn.benchmark
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_job_of_several_tasks_that_starts_one_process_has_one(monkeypatch):
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "job", "SLURM_JOB_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    assert start("cpu", "32").world_size == 1


def test_several_tasks_of_srun_are_refused(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(SettingsError, match=r"srun.*2 tasks.*torchrun"):
        start("cpu", "32")


def test_srun_of_torchrun_is_not(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert start("cpu", "32").world_size == 1


@pytest.mark.parametrize(
    ("precision", "hardware", "expected"),
    [
        ("auto", True, "bf16-mixed"),
        ("auto", False, "32"),
        ("32", True, "32"),
        ("bf16", False, "bf16-mixed"),
    ],
)
def test_what_a_precision_turns_out_to_be_is_what_fabric_runs_in(monkeypatch, precision, hardware, expected):
    monkeypatch.setattr(runtime, "has_bf16", lambda kind: hardware)
    assert resolved_precision(precision, "cpu") == expected
    found = start("cpu", precision)._precision.precision
    assert found == ("32-true" if expected == "32" else expected)
