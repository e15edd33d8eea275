"""How long a run will take, as a small table, and the words that repeat the run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from fewlabel.core.settings.durations import clock
from fewlabel.core.settings.value_syntax import assignments, merge

#: Columns of a terminal that the table and the words keep to.
WIDE = 80
_FORM = "{:<30}{:>7}{:>10}{:>10}{:>10}"


@dataclass(frozen=True)
class Row:
    """What is to come, or has been.

    Attributes:
        stage: Stage of the pipeline that it belongs to; empty for what is none of its own.
        name: What it is called.
        seconds: What it takes.
        steps: Of a training; None otherwise.
        step: Seconds of each; None otherwise.
        done: Whether it has been.
    """

    stage: str
    name: str
    seconds: float
    steps: int | None = None
    step: float | None = None
    done: bool = False

    def record(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


def total(rows: Sequence[Row]) -> float:
    """Seconds of all of them."""
    return sum(row.seconds for row in rows)


def by_stage(rows: Sequence[Row]) -> dict[str, float]:
    """Stage → seconds of all its rows."""
    seconds: dict[str, float] = {}
    for row in rows:
        if row.stage:
            seconds[row.stage] = seconds.get(row.stage, 0.0) + row.seconds
    return seconds


def table_lines(rows: Sequence[Row], now: datetime) -> list[str]:
    """The table, line by line, at most 80 columns wide.

    Args:
        rows: In their order; those that are done come first.
        now: Local time at which the others begin.
    """
    lines = [_FORM.format("stage", "steps", "s/step", "takes", "ends at")]
    at = now
    for row in rows:
        at += timedelta(seconds=0 if row.done else row.seconds)
        steps = "" if row.steps is None else str(row.steps)
        step = "" if row.step is None else f"{row.step:.3g}"
        ends = "done" if row.done else f"{at:%H:%M}"
        lines.append(_FORM.format(row.name[:30], steps, step, clock(row.seconds), ends))
    lines.append(_FORM.format("all of it", "", "", clock(total(rows)), f"{at:%H:%M}"))
    return [line.rstrip() for line in lines]


def command(data: str, out: str, recipe: str, said: Mapping[str, Any], resolved: Mapping[str, Any]) -> list[str]:
    """The words of a command that trains the same: what was said, and what was chosen.

    Args:
        data: The data set, as it was named.
        out: The run folder.
        recipe: The recipe, as it was named; empty for none.
        said: Nested values beside the recipe.
        resolved: Nested values that were chosen.
    """
    kept = {key: value for key, value in said.items() if key not in {"budget", "pretrain_share"}}
    options = ["--out", out, *(["--recipe", recipe] if recipe else [])]
    return ["fewlabel", "train", data, *options, *assignments(merge(kept, resolved)), "budget=off"]


def shell_lines(words: Sequence[str]) -> list[str]:
    """A command as lines of at most 80 columns that a shell takes for one."""
    lines = [""]
    for word in map(shlex.quote, words):
        # Room for the backslash that joins it to the next one.
        if lines[-1] and len(lines[-1]) + 1 + len(word) > WIDE - 2:
            lines.append("  ")
        lines[-1] += word if not lines[-1].strip() else f" {word}"
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]
