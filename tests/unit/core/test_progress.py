"""Progress goes to whoever listens."""

from __future__ import annotations

import pytest

from fewlabel.core import progress


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def start(self, title: str, total: int, done: int) -> Ear:
        self.heard.append(("start", title, total, done))
        return self

    def advance(self, count: int = 1, note: str = "") -> None:
        self.heard.append(("advance", count, note))

    def finish(self, bar: progress.Bar) -> None:
        self.heard.append(("finish", bar is self))

    def say(self, text: str) -> None:
        self.heard.append(("say", text))


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    monkeypatch.setattr(progress, "_listener", list(progress._listener))
    heard = Ear()
    progress.listen(heard)
    return heard


def test_a_task_is_told_from_start_to_finish(ear: Ear) -> None:
    with progress.task("work", 3, 1) as bar:
        bar.advance()
        bar.advance(1, "loss 2")
    progress.say("done")
    assert ear.heard == [
        ("start", "work", 3, 1),
        ("advance", 1, ""),
        ("advance", 1, "loss 2"),
        ("finish", True),
        ("say", "done"),
    ]


def test_a_failing_task_is_finished_too(ear: Ear) -> None:
    with pytest.raises(ValueError, match="no"), progress.task("work", 3):
        raise ValueError("no")
    assert ear.heard[-1] == ("finish", True)


def test_nobody_listening_is_silence(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_listener", [progress._Silence()])
    with progress.task("work", 3) as bar:
        bar.advance(2, "x")
    progress.say("done")
    assert capfd.readouterr() == ("", "")


def test_silence_ends_even_where_the_work_fails(ear: Ear) -> None:
    def work() -> None:
        with progress.silence():
            with progress.task("work", 3) as bar:
                bar.advance()
            progress.say("unheard")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    progress.say("heard")
    assert ear.heard == [("say", "heard")]


def test_silences_of_several_threads_may_end_in_any_order(ear: Ear) -> None:
    first, second = progress.silence(), progress.silence()
    with first:
        second.__enter__()
        progress.say("in both")
    progress.say("in the second")
    second.__exit__(None, None, None)
    progress.say("in none")
    assert ear.heard == [("say", "in none")]
