"""Processes as ``torchrun`` starts them: two nodes end with the weights of one process, a lost rank costs no bit."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import torch
from safetensors.torch import load_file

from fewlabel.core.collective import rank
from fewlabel.engine import loop
from fewlabel.engine.checkpoint import CHECKPOINT
from fewlabel.engine.record import read_record
from kit.command_line import fewlabel
from kit.other_process import begun, ended


def together(words: list[str], *, nodes: int, prepare=None) -> list[int]:
    """Exit codes of two processes that meet at a port of this machine, on one node or on one each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "TORCHELASTIC_RUN_ID": "test"}
    started = []
    for number in range(2):
        place = {"RANK": str(number), "LOCAL_RANK": str(number if nodes == 1 else 0)}
        sizes = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": str(2 // nodes)}
        started.append(begun(words, {**meeting, **place, **sizes}, prepare))
    return [ended(process) for process in started]


def test_two_nodes_end_with_the_weights_of_one_process(words: list[str], tmp_path: Path) -> None:
    # At the default rate float32's rounding grows to what one sees; test_trajectories_in_float64 has that rate.
    words = [*words, "optimiser.lr=0.005"]
    assert together([*words, "--out", str(tmp_path / "two")], nodes=2) == [0, 0]
    fewlabel(*words, "--out", tmp_path / "one")
    one, two = (load_file(tmp_path / name / "encoder.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        torch.testing.assert_close(two[key], tensor, rtol=2e-4, atol=2e-5)


def dies_in_the_sixth_step() -> None:
    usual, calls = loop.total_norm, iter(range(100))

    def norm(gradients):
        if next(calls) == 5 and rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(gradients)

    loop.total_norm = norm


def test_a_run_that_lost_a_process_is_resumed_to_the_bits_of_one_that_lost_none(
    words: list[str], tmp_path: Path
) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    assert together([*words, "--out", str(cut)], nodes=1, prepare=dies_in_the_sixth_step) == [7, -signal.SIGKILL]
    assert (cut / CHECKPOINT).is_file()
    assert not (cut / "manifest.json").exists()
    before = read_record(cut / "metrics.jsonl")
    assert [row["step"] for row in before] == [0, 1, 2, 3, 4]
    assert together([*words, "--out", str(cut), "--resume"], nodes=1) == [0, 0]
    assert together([*words, "--out", str(whole)], nodes=1) == [0, 0]
    for name in ("encoder.safetensors", "embeddings.safetensors"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    # Steps that were saved are not taken again: those rows have the seconds of the first attempt.
    assert read_record(cut / "metrics.jsonl")[:5] == before
    ours, theirs = (
        [{key: value for key, value in row.items() if key != "seconds"} for row in read_record(out / "metrics.jsonl")]
        for out in (cut, whole)
    )
    assert ours == theirs
    assert not (cut / CHECKPOINT).exists()
