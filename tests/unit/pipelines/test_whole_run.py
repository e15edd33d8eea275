"""One bar over all stages moves by what each is forecast to take."""

from __future__ import annotations

import pytest

from fewlabel.core import progress
from fewlabel.core.progress import say, task
from fewlabel.pipelines.run_duration_table import Row
from fewlabel.pipelines.whole_run import TITLE, following

ROWS = [
    Row("", "prepare", 10.0, done=True),
    Row("finetune", "finetune, 2 times", 40.0, steps=20, step=1.0),
    Row("finetune", "its control, 2 times", 40.0, steps=20, step=1.0),
    Row("evaluate", "evaluate", 10.0),
]


class Ear:
    """Keeps every bar: its title, how far it came, and whether it was finished."""

    def __init__(self) -> None:
        self.bars: list[Ear.Bar] = []

    class Bar:
        def __init__(self, title: str, done: int) -> None:
            self.title, self.done, self.finished = title, done, False

        def advance(self, count: int = 1, note: str = "") -> None:
            self.done += count

    def start(self, title: str, total: int, done: int) -> Bar:
        self.bars.append(Ear.Bar(title, done))
        return self.bars[-1]

    def finish(self, bar: Bar) -> None:
        bar.finished = True

    def say(self, text: str) -> None:
        pass


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    heard = Ear()
    monkeypatch.setattr(progress, "_listener", [heard])
    return heard


def test_steps_count_by_their_seconds_and_other_stages_by_their_task(ear: Ear) -> None:
    with following(ROWS) as whole:
        assert whole is not None
        bar = ear.bars[0]
        assert (bar.title, bar.done) == (TITLE, 10)
        whole.enter("finetune")
        for title in ("finetune", "finetune, without a"):
            with task(title, 20) as steps:
                for _ in range(20):
                    steps.advance()
            with task("something else", 7) as other:
                other.advance(7)
        assert bar.done == 50
        # Resumed half-way.
        with task("control", 20, 10) as steps:
            assert bar.done == 60
            steps.advance(10)
        assert bar.done == 70
        whole.enter("evaluate")
        assert bar.done == 90
        with task("evaluate", 4) as scans:
            scans.advance(2)
            assert bar.done == 95
        say("passed on")
    assert bar.done == 100
    assert bar.finished
    assert progress._listener == [ear]


def test_a_run_that_fails_gives_the_listener_back(ear: Ear) -> None:
    with pytest.raises(ValueError, match="oh"), following(ROWS):
        raise ValueError("oh")
    assert progress._listener == [ear]
    assert ear.bars[0].finished
    assert ear.bars[0].done < 100


def test_without_a_forecast_there_is_no_bar(ear: Ear) -> None:
    with following([]) as whole:
        assert whole is None
    assert not ear.bars
