"""The words and options of a command as nested values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings; fewlabel settings STAGE lists those of a stage."),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Folder made by train or demo.")]
Out = Annotated[str | None, typer.Option("--out", metavar="DIR", help="Where the result goes (required).")]
Recipe = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME|FILE", help="A named set of settings, or a YAML file.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]
Device = Annotated[str | None, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to compute.")]
Reader = Annotated[
    str | None, typer.Option("--reader", metavar="NAME", help="Dataset convention, if it is not to be guessed.")
]


def collect(
    main: Mapping[str, str | None], words: Sequence[str] | None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Nested values of a command: its ``key=value`` words, then its options, which win.

    A first word that is itself ``key=value`` counts as a setting, so ``fewlabel pretrain data=P out=E`` works.

    Args:
        main: Setting → the word given for it, for the positional words of the command.
        words: The ``key=value`` words.
        options: Setting → value; None and False mean "not given".

    Raises:
        SettingsError: Naming each word that is not ``key=value``.
    """
    from fewlabel.core.settings.value_syntax import merge, nest

    assignments = list(words or [])
    given: dict[str, Any] = {}
    for key, word in main.items():
        if word is None:
            continue
        if is_assignment(word):
            assignments.insert(0, word)
        else:
            given[key] = word
    given_options = {key: value for key, value in (options or {}).items() if value is not None and value is not False}
    return merge(merge(nest(assignments), given), given_options)


def is_assignment(word: str) -> bool:
    """Whether a word is ``key=value``, and not the path of a file that is there."""
    from pathlib import Path

    key, equals, _ = word.partition("=")
    return bool(equals) and all(part.isidentifier() for part in key.split(".")) and not Path(word).exists()
