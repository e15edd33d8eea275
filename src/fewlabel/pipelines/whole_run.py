"""One bar over all stages of a run, by the forecast of what each takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fewlabel.core.progress import Bar, Listener, passing_through
from fewlabel.pipelines.run_duration_table import Row, by_stage, total

TITLE = "the whole run, %"


class WholeRun:
    """Listens to the tasks of the stages, passes them on, and moves a bar of its own.

    The share of a training that is done is that of its steps; of another stage it is that of its task.

    Args:
        inner: Who shows the bars.
        rows: The forecast; what is done comes first.
    """

    def __init__(self, inner: Listener, rows: Sequence[Row]) -> None:
        self._inner = inner
        self._seconds = by_stage([row for row in rows if not row.done])
        self._all = max(total(rows), 1e-9)
        self._gone = sum(row.seconds for row in rows if row.done)
        #: Stage → lengths of its trainings, and steps of all of them.
        self._lengths: dict[str, set[int]] = {}
        self._steps: dict[str, float] = {}
        for row in rows:
            if row.steps and row.step:
                self._lengths.setdefault(row.stage, set()).add(row.steps)
                self._steps[row.stage] = self._steps.get(row.stage, 0.0) + row.seconds / row.step
        self._stage, self._share, self._shown = "", 0.0, 0
        self._bar = inner.start(TITLE, 100, 0)
        self._show()

    def enter(self, stage: str) -> None:
        """A stage begins; the one before is done."""
        self._gone += self._seconds.get(self._stage, 0.0)
        self._stage, self._share = stage, 0.0
        self._show()

    def close(self, *, finished: bool) -> None:
        """The run has ended, well or not."""
        if finished:
            self.enter("")
        self._inner.finish(self._bar)

    def start(self, title: str, total: int, done: int) -> Bar:
        """A task of a stage begins."""
        unit = self._unit(total)
        bar = _Passed(self, self._inner.start(title, total, done), unit)
        self.moved(done * unit)
        return bar

    def finish(self, bar: Bar) -> None:
        """A task of a stage has ended."""
        self._inner.finish(bar.shown if isinstance(bar, _Passed) else bar)

    def say(self, text: str) -> None:
        """One line for the user."""
        self._inner.say(text)

    def moved(self, share: float) -> None:
        """So much more of the stage is done."""
        self._share = min(self._share + share, 1.0)
        self._show()

    def _unit(self, length: int) -> float:
        """What a unit of a task of that length is to its stage."""
        if lengths := self._lengths.get(self._stage):
            return 1 / self._steps[self._stage] if length in lengths else 0.0
        return 1 / max(length, 1)

    def _show(self) -> None:
        done = self._gone + self._share * self._seconds.get(self._stage, 0.0)
        percent = min(int(100 * done / self._all + 1e-9), 100)
        if percent > self._shown:
            self._bar.advance(percent - self._shown, note=self._stage)
            self._shown = percent


@dataclass
class _Passed:
    """A task of a stage, as it is shown, and what a unit of it is to the stage."""

    owner: WholeRun
    shown: Bar
    unit: float

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more units are done."""
        self.shown.advance(count, note)
        if self.unit:
            self.owner.moved(count * self.unit)


@contextmanager
def following(rows: Sequence[Row]) -> Iterator[WholeRun | None]:
    """Show one bar over all stages; None, and none, without a forecast."""
    if not any(row.stage for row in rows):
        yield None
        return
    with passing_through(lambda inner: WholeRun(inner, rows)) as whole:
        try:
            yield whole
        except BaseException:
            whole.close(finished=False)
            raise
        whole.close(finished=True)
