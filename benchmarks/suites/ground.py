"""What the ground suites share: arms of fine-tuning on one data set, in equal time, a row at a time.

A suite plans a cell for each arm, split, number of labelled patients and draw; every training costs the time of so many
supervised steps. Choices are made on the cells of one split, and cells of another have to be named: they are of
patients who choose nothing. Rows go to ``results/SUITE.jsonl``; stopped at any time, a suite goes on where it was. What
is not there is listed as not run by ``python benchmarks/summary.py SUITE``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from suites.ground_arms import ARMS, TRAININGS

#: What the default was chosen to be, its control, and the fine-tuning as it was before.
DEFAULT, CONTROL, BEFORE = "weak-to-strong", "+post-processing", "supervised"
FIVE, THREE, ONE = tuple(range(5)), tuple(range(3)), (0,)


@dataclass(frozen=True)
class Cell:
    """One row to come: ``draw`` is the number of the draw, or of what :attr:`Split.numbers` says."""

    arm: str
    split: str
    labelled: int | None
    draw: int

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What tells rows apart; all labelled patients count as 0."""
        return self.arm, self.split, self.labelled or 0, self.draw


@dataclass(frozen=True)
class Split:
    """Whom the cells of one name are trained on and scored on.

    Attributes:
        home: Folder of its prepared data and trainings. Splits of one home share them: they differ in who is scored.
        prepare: Settings of ``prepare`` over the recipe.
        part: The part that is scored.
        numbers: What the draw of a cell counts. ``draws`` of labelled patients; ``seeds`` of the training, where there
            is one draw; ``parts``: draws that each have a random split of their own, where the patients are too few for
            one to tell.
    """

    home: str
    prepare: Mapping[str, Any] = field(default_factory=dict)
    part: str = "test"
    numbers: Literal["draws", "seeds", "parts"] = "draws"


@dataclass(frozen=True)
class Ground:
    """One suite.

    Attributes:
        suite: Its name.
        cells: All cells of the table, the most wanted first.
        splits: By name.
        choices: Name of the split that choices are made on.
        units: What a training may cost, in supervised steps.
        unit_seconds: Seconds of a supervised step on one core, to tell the hours before there are rows.
        recipe: Of ``prepare`` and ``finetune``; None for the defaults.
        finetune: Settings of ``finetune`` over the recipe.
        costs: What a step of a regime costs in supervised steps, where it is not as on the slices of ACDC.
        crop: Settings of ``prepare`` for the middle of the slices; empty where all arms see whole ones.
    """

    suite: str
    cells: Sequence[Cell]
    splits: Mapping[str, Split]
    choices: str
    units: int
    unit_seconds: float
    recipe: str | None = None
    finetune: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    crop: Mapping[str, Any] = field(default_factory=dict)

    def home(self, cell: Cell) -> str:
        """The folder of a cell's prepared data and trainings, below that of the suite."""
        split = self.splits[cell.split]
        home = f"{split.home}-{cell.draw}" if split.numbers == "parts" else split.home
        return f"{home}-middle" if self.middle(cell) else home

    def middle(self, cell: Cell) -> bool:
        """Whether a cell sees the middle of the slices alone."""
        return bool(self.crop) and TRAININGS[ARMS[cell.arm].training].middle

    def training(self, cell: Cell) -> str:
        """Folder of the training that a cell shows, in its home: several cells may share one."""
        return f"{ARMS[cell.arm].training}-m{cell.labelled or 'all'}-d{cell.draw}"


def cells_of(split: str, arms: Iterable[str], budgets: Iterable[int], draws: Iterable[int]) -> Iterator[Cell]:
    """All arms of a draw before the next draw, all draws of a number of labelled patients before the next number."""
    arms, draws = tuple(arms), tuple(draws)
    for labelled in budgets:
        for draw in draws:
            yield from (Cell(arm, split, labelled, draw) for arm in arms)


def wanted(ground: Ground, chosen: Sequence[str]) -> list[Cell]:
    """The cells that are asked for.

    Raises:
        SystemExit: If a word names none.
    """
    names = {cell: f"{cell.split}/{cell.arm}" for cell in ground.cells}
    known = {cell: {name, cell.arm} if cell.split == ground.choices else {name} for cell, name in names.items()}
    strange = [word for word in chosen if not any(word in words for words in known.values())]
    if strange:
        words = ", ".join(dict.fromkeys(word for words in known.values() for word in sorted(words)))
        raise SystemExit(f"{ground.suite} has no arm {', '.join(strange)}. Known: {words}")
    if not chosen:
        return [cell for cell in ground.cells if cell.split == ground.choices]
    return [cell for cell, words in known.items() if words & set(chosen)]


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of the table so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def keys_of(table: Iterable[Mapping[str, Any]]) -> set[tuple[str, str, int, int]]:
    """What tells these rows apart, as :attr:`Cell.key`."""
    return {(row["arm"], row["split"], row["labelled"], row["draw"]) for row in table}


def made(path: Path) -> set[tuple[str, str, int, int]]:
    """Keys of the rows so far."""
    return keys_of(rows(path))


def not_run(ground: Ground, path: Path) -> list[Cell]:
    """Cells of the plan without a row."""
    there = made(path)
    return [cell for cell in ground.cells if cell.key not in there]
