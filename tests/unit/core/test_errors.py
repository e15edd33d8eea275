"""The exceptions a user can meet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fewlabel.core import errors
from fewlabel.core.errors import Fault, FewlabelError


def test_a_fault_says_place_problem_and_remedy() -> None:
    fault = Fault("spacing must be positive, not -1.0", "case 7", "Correct the header")
    assert str(fault) == "case 7: spacing must be positive, not -1.0. Correct the header."
    assert str(Fault("spacing must be positive")) == "spacing must be positive."
    assert str(Fault("unknown setting", "step", "Did you mean steps?")) == "step: unknown setting. Did you mean steps?"


def test_an_error_tells_all_its_faults_in_order() -> None:
    error = FewlabelError("Two things:", map(Fault, ("First", "Second")))
    assert str(error).splitlines() == ["Two things:", "  - First.", "  - Second."]
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


def test_the_reason_of_an_error_is_without_number_and_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Errno") as caught:
        (tmp_path / "gone").read_text()
    assert errors.reason(caught.value) == "No such file or directory"
    assert errors.reason(OSError("broken")) == errors.reason(ValueError("broken")) == "broken"


def test_the_drawing_holds_the_whole_tree() -> None:
    kinds = {item.__name__ for item in vars(errors).values() if isinstance(item, type) and issubclass(item, Exception)}
    assert kinds == set(re.findall(r"\b\w+Error\b", errors.__doc__ or ""))
