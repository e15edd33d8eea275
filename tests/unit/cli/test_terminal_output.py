"""What the user sees."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fewlabel.cli import terminal_output
from fewlabel.cli.terminal_output import ConsoleListener, pairs, table


def plain(width: int = 80) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    made = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    made.soft_wrap = True
    return made, stream


def test_a_log_file_gets_a_line_at_the_end_and_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(terminal_output.time, "monotonic", lambda: now[0])
    made, stream = plain()
    listener = ConsoleListener(made)
    bar = listener.start("pretrain", 100, 40)
    bar.started = bar.shown = 0.0
    for _ in range(10):
        now[0] += 1.0
        bar.advance(1, "loss 2")
    assert stream.getvalue() == ""
    now[0] = 25.0
    bar.advance(10)
    assert stream.getvalue() == "pretrain  60/100  0:25  0:50 left  loss 2\n"
    now[0] = 26.0
    bar.advance(40, "loss 1")
    listener.finish(bar)
    assert stream.getvalue().splitlines()[1:] == ["pretrain  100/100  0:26  loss 1"]


def test_a_task_that_stops_early_says_where() -> None:
    made, stream = plain()
    listener = ConsoleListener(made)
    bar = listener.start("prepare", 5, 0)
    bar.advance(2)
    listener.finish(bar)
    assert stream.getvalue().startswith("prepare  2/5")


def test_a_line_keeps_to_the_terminal_but_a_long_path_stays_whole() -> None:
    stream = io.StringIO()
    made = Console(file=stream, width=80, force_terminal=True, highlight=False, color_system=None)
    made.soft_wrap = False
    listener = ConsoleListener(made)
    listener.say("word " * 30)
    assert max(len(line.rstrip()) for line in stream.getvalue().splitlines()) <= 80
    stream.truncate(0)
    # A command that is to be repeated, line by line as a shell takes it.
    lines = ["fewlabel train \\", f"  {'/scans/of/many/patients' * 5} \\", "  --out run budget=off"]
    for line in lines:
        listener.say(line)
    assert stream.getvalue().lstrip("\0").splitlines() == lines


def test_a_terminal_gets_a_bar_that_leaves_one_line() -> None:
    stream = io.StringIO()
    made = Console(file=stream, width=80, force_terminal=True, highlight=False)
    made.soft_wrap = False
    listener = ConsoleListener(made)
    outer = listener.start("outer", 2, 0)
    inner = listener.start("inner", 2, 0)
    inner.advance(2, "note")
    listener.finish(inner)
    listener.say("between")
    outer.advance(2)
    listener.finish(outer)
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "inner  2/2  0:00  note" in text
    assert "between" in text
    assert text.rstrip().endswith("outer  2/2  0:00")


def test_tables_fold_and_never_cut() -> None:
    made, stream = plain(40)
    made.print(table([["a.long.key.of.a.setting", "words " * 20]], ["setting", "meaning"]))
    lines = stream.getvalue().splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert stream.getvalue().count("words") == 20
    made, stream = plain(40)
    made.print(pairs([("topic", "text")]))
    assert stream.getvalue().split() == ["topic", "text"]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("note", "recommended normalisation of intensities " * 8),
        ("meta label time_since_the_last_examination_in_days", "equal to the manufacturer " * 8),
        ("meta label " + "of_a_column" * 3, "/folder/of/scans/of/many/" + " another word" * 20),
        ("scans that are of the very same patient, by the words of their names", "recommendation " * 12),
    ],
)
def test_tables_break_lines_between_words(topic: str, text: str, width: int) -> None:
    for made_table in (pairs([(topic, text)]), table([(topic, text)], ["topic", "advice"])):
        made, stream = plain(width)
        made.print(made_table)
        assert all(len(line) <= width for line in stream.getvalue().splitlines())
        assert sorted({*topic.split(), *text.split()} - set(stream.getvalue().split())) == []


def test_a_word_longer_than_its_column_is_folded_and_whole() -> None:
    made, stream = plain(40)
    made.print(pairs([("note", "word " * 9 + "x" * 75)]))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert stream.getvalue().count("x") == 75
    assert stream.getvalue().split().count("word") == 9


def test_markup_in_texts_is_text() -> None:
    made, stream = plain()
    ConsoleListener(made).say("[bold] found [1, 2] :smile:")
    assert stream.getvalue() == "[bold] found [1, 2] :smile:\n"


def test_piped_paths_stay_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    path = "/".join(["folder"] * 40)
    ConsoleListener(terminal_output.stderr()).say(path)
    assert capsys.readouterr().err == f"{path}\n"
