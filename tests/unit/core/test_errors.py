"""The exceptions a user can meet."""

from __future__ import annotations

import re

import pytest

from fewlabel.core import errors
from fewlabel.core.errors import Fault, FewlabelError


def test_a_fault_says_rule_found_place_and_remedy() -> None:
    fault = Fault.of("spacing is positive", "-1.0", "case 7", "mend the header")
    assert str(fault) == "case 7: spacing is positive; found -1.0. → mend the header"
    assert str(Fault.of("spacing is positive", "-1.0")) == "spacing is positive; found -1.0."


def test_an_error_tells_all_its_faults_in_order() -> None:
    error = FewlabelError("Two things:", (Fault.of(rule, "x") for rule in ("first", "second")))
    assert str(error).splitlines() == ["Two things:", "  - first; found x.", "  - second; found x."]
    assert len(error.faults) == 2
    assert error.message == "Two things:"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SettingsError", 2),
        ("DataError", 3),
        ("ArtifactError", 3),
        ("DivergedError", 4),
        ("MemoryLimitError", 5),
        ("RunStoppedError", 130),
    ],
)
def test_exit_codes_are_those_of_the_drawing(name: str, code: int) -> None:
    assert getattr(errors, name).exit_code == code
    assert re.search(rf"{name}\s+{code}\b", errors.__doc__ or "")


def test_the_drawing_holds_the_whole_tree() -> None:
    kinds = {item.__name__ for item in vars(errors).values() if isinstance(item, type) and issubclass(item, Exception)}
    assert kinds == set(re.findall(r"\b\w+Error\b", errors.__doc__ or ""))
