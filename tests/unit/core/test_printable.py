"""Names as they reach a terminal or a page: no name writes anything but itself."""

from __future__ import annotations

import io
import json
import os

import pytest
from rich.console import Console

from fewlabel.cli import terminal_output
from fewlabel.cli.failures import report_failure
from fewlabel.cli.terminal_output import ConsoleListener, pairs, table
from fewlabel.core.artifact.files import append_line, read_json, write_json, write_text
from fewlabel.core.errors import DataError, Fault
from fewlabel.core.printable import printable, significant
from fewlabel.reporting.blocks import Headline, Page
from fewlabel.reporting.page import render

FORGED = "scan\nNo faults.\x1b[2K\x9b1A\r\u202egz.\x07"
SHOWN = r"scan\nNo faults.\x1b[2K\x9b1A\r\u202egz.\x07"
BYTES = os.fsdecode(b"scan_\xff.nii.gz")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (FORGED, SHOWN),
        (BYTES, r"scan_\xff.nii.gz"),
        ("a\ud800b\u2028c\td", r"a\ud800b\u2028c\td"),
        ("Jürgen's 心臓 ❤️ \u200d µ – scan.nii", "Jürgen's 心臓 ❤️ \u200d µ – scan.nii"),
    ],
)
def test_what_moves_the_cursor_or_is_no_text_is_written_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(printable(text)) == shown


def test_lines_that_are_meant_stay() -> None:
    assert printable("one\n  two\x1b", lines=True) == "one\n  two\\x1b"


def test_faults_and_errors_stay_one_line_each() -> None:
    fault = Fault(f"is no scan: {FORGED}", FORGED, f"Rename {BYTES}")
    assert str(fault) == rf"{SHOWN}: is no scan: {SHOWN}. Rename scan_\xff.nii.gz."
    assert str(DataError(f"{FORGED} cannot be used:", [fault])).splitlines() == [
        f"{SHOWN} cannot be used:",
        f"  - {fault}",
    ]
    assert fault.where == FORGED


def _on_a_terminal(print_on: object) -> str:
    stream = io.StringIO()
    made = terminal_output.SafeConsole(
        file=stream, width=200, force_terminal=True, color_system=None, highlight=False, markup=False, emoji=False
    )
    made.soft_wrap = False
    print_on(made)  # type: ignore[operator]
    return stream.getvalue()


def _bar(console: Console) -> None:
    listener = ConsoleListener(console)
    bar = listener.start(f"{FORGED} [/b]", 2, 0)
    bar.advance(2, f"[bold] {FORGED} [/b]")
    listener.finish(bar)


@pytest.mark.parametrize(
    "show",
    [
        lambda console: ConsoleListener(console).say(f"{FORGED}: read"),
        lambda console: console.print(pairs([("note", FORGED)])),
        lambda console: console.print(table([[FORGED, "1"]], ["scan", "Dice"])),
        _bar,
    ],
)
def test_the_terminal_gets_no_control_of_a_name(show: object) -> None:
    told = _on_a_terminal(show)
    assert SHOWN in told
    assert not any(line.startswith("No faults.") for line in told.splitlines())
    assert "\x9b" not in told
    assert "\x1b[2K\x9b1A" not in told
    assert "\u202e" not in told


def test_what_is_printed_as_it_is_has_no_control_but_its_lines() -> None:
    assert _on_a_terminal(lambda console: console.print("report: a\x1b[2Kb\nc", soft_wrap=True)) == (
        "report: a\\x1b[2Kb\nc\n"
    )


def test_failures_show_no_control(capsys: pytest.CaptureFixture[str]) -> None:
    report_failure(PermissionError(13, "Permission denied", FORGED))
    assert SHOWN in capsys.readouterr().err
    report_failure(ValueError(f"{FORGED} is odd"))
    told = capsys.readouterr().err
    assert "\x1b[2K" not in told
    assert "\u202e" not in told


def test_pages_show_no_control() -> None:
    html = render(Page(f"{FORGED} {BYTES}", BYTES, Headline(FORGED)))
    assert "scan_\\xff.nii.gz" in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    html.encode()


def test_texts_of_artifacts_hold_names_of_any_bytes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    write_json(tmp_path / "a.json", {"file": BYTES})
    assert read_json(tmp_path / "a.json") == {"file": BYTES}
    append_line(tmp_path / "lines", json.dumps({"file": BYTES}, ensure_ascii=False))
    assert json.loads((tmp_path / "lines").read_text(encoding="utf-8")) == {"file": BYTES}
    write_text(tmp_path / "a.csv", BYTES)
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == r"scan_\udcff.nii.gz"


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.012345, 3, "0.0123"),
        (12.0, 3, "12"),
        (999.4, 3, "999"),
        (999.5, 3, "1000"),
        (-1234.5, 2, "-1234"),
        (999_999.0, 3, "999999"),
        (2.5e7, 3, "2.5e+07"),
        (float("nan"), 3, "nan"),
    ],
)
def test_figures_of_a_thousand_and_more_have_no_exponent(value, digits, shown):
    assert significant(value, digits) == shown
