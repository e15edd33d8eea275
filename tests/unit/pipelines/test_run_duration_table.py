"""The table of what is to come, and the words that repeat a run."""

from __future__ import annotations

import shlex
import subprocess
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewlabel.pipelines.run_duration_table import Row, by_stage, command, shell_lines, table_lines, total

ROWS = [
    Row("", "prepare, and timing of steps", 95.4, done=True),
    Row("pretrain", "pretrain gcl", 810.0, 500, 1.6),
    Row("finetune", "finetune weak_to_strong, 4 times", 12_600.0, 3000, 0.4201),
    Row("finetune", "its control, 4 times", 12_600.0, 3000, 0.4201),
    Row("evaluate", "evaluate", 92.0),
    Row("report", "report", 20.0),
]


def test_the_table_says_how_long_and_until_when() -> None:
    lines = table_lines(ROWS, datetime(2030, 1, 2, 23, 50))
    assert lines[0].split() == ["stage", "steps", "s/step", "takes", "ends", "at"]
    assert lines[1].split()[-2:] == ["1:35", "done"]
    assert lines[2].split() == ["pretrain", "gcl", "500", "1.6", "13:30", "00:03"]
    assert lines[3].split()[-4:] == ["3000", "0.42", "3:30:00", "03:33"]
    assert lines[-1].split() == ["all", "of", "it", "7:16:57", "07:05"]
    assert max(map(len, lines)) <= 80
    assert not any(line.endswith(" ") for line in lines)
    assert total(ROWS) == pytest.approx(95.4 + 810 + 2 * 12_600 + 112)


def test_rows_of_a_stage_count_together_and_the_past_is_no_stage() -> None:
    assert by_stage(ROWS) == {"pretrain": 810.0, "finetune": 25_200.0, "evaluate": 92.0, "report": 20.0}


def test_rows_survive_their_record() -> None:
    assert [Row(**row.record()) for row in ROWS] == ROWS


def test_the_command_says_what_was_said_and_what_was_chosen() -> None:
    said = {"budget": "1h", "finetune": {"labelled": 2}, "prepare": {"size": None}, "seed": 3, "pretrain_share": 0.4}
    chosen = {"prepare": {"size": [160, 144], "spacing": [1.5, 1.5]}, "finetune": {"steps": 3000}}
    assert command("my scans", "run", "", said, chosen) == [
        "fewlabel", "train", "my scans", "--out", "run", "finetune.labelled=2", "finetune.steps=3000",
        "prepare.size=[160,144]", "prepare.spacing=[1.5,1.5]", "seed=3", "budget=off",
    ]  # fmt: skip
    assert command("d", "r", "mine.yaml", {}, {})[3:] == ["--out", "r", "--recipe", "mine.yaml", "budget=off"]


@given(st.lists(st.text("ab [],='\"$\\ ", min_size=1, max_size=60), min_size=1, max_size=30))
def test_lines_are_one_command_to_a_shell(words: list[str]) -> None:
    lines = shell_lines(words)
    assert shlex.split(" ".join(line.removesuffix(" \\") for line in lines)) == words
    assert all(len(line) <= 80 or len(line.split("'")) > 1 for line in lines)


def test_a_shell_reads_them_so() -> None:
    words = ["my scans", "prepare.size=[160,144]", *(f"finetune.key{n}=value" for n in range(9))]
    lines = shell_lines(["printf", "%s\\n", *words])
    assert len(lines) > 2
    done = subprocess.run(["sh", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == words
