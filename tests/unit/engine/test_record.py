"""The record survives kills and resumes without doubles."""

from __future__ import annotations

from fewlabel.engine.record import Record, read_record


def test_rows_after_the_resumed_step_are_dropped_and_torn_lines_ignored(tmp_path):
    record = Record(tmp_path)
    for step in range(4):
        record.add(step, {"loss": step / 3, "bad": float("nan")})
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    resumed = Record(tmp_path, first_step=2)
    resumed.add(2, {"loss": 9.0})
    rows = read_record(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert rows[1] == {"step": 1, "loss": 0.333333, "bad": None}
    assert rows[2]["loss"] == 9.0
