"""A process that dies or hangs ends the run by one line and leaves what was saved; two nodes train together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

#: The command line, but process 1 does not come back from its sixth step, and patience is short.
FAILING = """
import os, signal, sys, time
from datetime import timedelta
from fewlabel.engine import loop, runtime, stalled_processes
stalled_processes.PATIENCE = runtime.PATIENCE = timedelta(seconds={patience})
usual, calls = loop.total_norm, iter(range(100))
def failing(gradients):
    if next(calls) == 5 and os.environ["RANK"] == "1":
        {failure}
    return usual(gradients)
loop.total_norm = failing
from fewlabel.cli import main
main(sys.argv[1:])
"""


def _torchrun(*launch: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *launch]


def _environment() -> dict[str, str]:
    # Where torchrun is told how many threads, it says nothing of them.
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "patience"),
    [("os.kill(os.getpid(), signal.SIGKILL)", 600), ("time.sleep(600)", 20)],
)
def test_a_lost_process_ends_the_run_by_one_line_and_leaves_its_state(
    words: list[str], tmp_path: Path, failure: str, patience: int
) -> None:
    script = tmp_path / "failing.py"
    script.write_text(FAILING.format(failure=failure, patience=patience))
    out = tmp_path / "run"
    launch = _torchrun("--standalone", "--nproc_per_node", "2", str(script), *words, "--out", str(out))
    done = subprocess.run(launch, env=_environment(), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    told = " ".join(done.stderr.split())
    assert told.count("Another process of this run has ended, hangs or cannot be reached") == 1
    assert "goes on from the state that was saved last" in told
    assert "This should not happen" not in told
    # A process that hangs shows where, and so do those that wait for it.
    stacks = done.stderr.split("Timeout (")[1:]
    assert len(stacks) == (0 if "kill" in failure else 2)
    assert sum(" in failing" in stack for stack in stacks) == len(stacks) // 2
    assert all("loop.py" in stack for stack in stacks)
    # What --resume goes on from.
    assert (out / "checkpoint.safetensors").is_file()


@pytest.mark.slow
def test_two_nodes_train_together(words: list[str], tmp_path: Path) -> None:
    """As docs/how-to/cluster.md has it: one torchrun a node, which meet at an address of the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = []
    for number in range(2):
        launch = _torchrun(
            *("--nnodes", "2", "--node_rank", str(number), "--nproc_per_node", "1"),
            *("--master_addr", "127.0.0.1", "--master_port", str(port)),
            *("-m", "fewlabel", *words, "--out", str(tmp_path / "two")),
        )
        nodes.append(subprocess.Popen(launch, env=_environment(), stderr=subprocess.PIPE, text=True))
    try:
        for node in nodes:
            _, errors = node.communicate(timeout=300)
            assert node.returncode == 0, errors[-3000:]
    finally:
        for node in nodes:
            if node.poll() is None:
                node.send_signal(signal.SIGKILL)
    assert (tmp_path / "two" / "encoder.safetensors").is_file()
