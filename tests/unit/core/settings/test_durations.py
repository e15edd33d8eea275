"""Times as they are written and shown."""

from __future__ import annotations

import pytest

from fewlabel.core.settings.durations import clock, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45m", 2700),
        ("1h30m", 5400),
        ("90s", 90),
        ("2h", 7200),
        ("1.5h", 5400),
        (".5m", 30),
        ("1H 5m 10s", 3910),
        (" 10m ", 600),
        ("0h10s", 10),
    ],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["45", "1.5", "-3"])
def test_a_plain_number_is_told_to_get_a_unit(text: str) -> None:
    with pytest.raises(ValueError, match=rf"add its unit, e\.g\. {text}m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "h", "soon", "1d", "30m1h", "1h30", "1:30", "5mm", "1h h", "nanm"])
def test_what_is_no_time_is_told_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="45m, 1h30m or 90s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0m", "0h0s", "0.0h"])
def test_no_time_at_all_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        parse_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3725, "1:02:05")])
def test_times_are_clocks(seconds: float, text: str) -> None:
    assert clock(seconds) == text
