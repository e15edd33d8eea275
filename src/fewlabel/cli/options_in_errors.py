"""Options that were given as settings, or not at all: errors name them as the command line writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fewlabel.core.errors import MISSING, UNKNOWN, Fault, SettingsError


def with_options(error: SettingsError, words: Sequence[str], command: Any, group: Any) -> SettingsError:
    """The error of a command with its options in place of settings: ``--recipe acdc`` rather than ``recipe=acdc``.

    Args:
        error: What the command raised.
        words: The words of the command line.
        command: The command, as typer knows it.
        group: The program, whose own options come before the command.
    """
    faults = [_with_option(fault, words, command, group) for fault in error.faults]
    return type(error)(error.message, faults)


def _with_option(fault: Fault, words: Sequence[str], command: Any, group: Any) -> Fault:
    for owner in (command, group):
        for parameter in owner.params:
            if f"--{fault.where}" in parameter.opts and fault.kind in (UNKNOWN, MISSING):
                option = f"--{fault.where}"
                if not parameter.is_flag:
                    option += f" {_value(fault.where, words) or parameter.metavar}"
                if fault.kind == MISSING:
                    return Fault("is required", fault.where, f"Add {option}", kind=MISSING)
                place = "" if owner is command else " before the command"
                return Fault("is an option, not a setting", fault.where, f"Give {option}{place}", kind=UNKNOWN)
            if parameter.param_type_name == "argument" and (parameter.name, MISSING) == (fault.where, fault.kind):
                remedy = f"Begin with fewlabel {command.name} {parameter.metavar}"
                return Fault("is required", fault.where, remedy, kind=MISSING)
    return fault


def _value(key: str, words: Sequence[str]) -> str:
    """What a word gives a setting; empty if none does."""
    values = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return values[-1] if values else ""
