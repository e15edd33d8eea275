"""Settings that were given and settings that were chosen, as nested values; neither changes the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fewlabel.core.settings.base import Settings
from fewlabel.core.settings.value_syntax import assignments, merge, nest
from fewlabel.pipelines._train_settings import CHAIN, TrainSettings
from fewlabel.pipelines.stage_table import route_known

#: Values that leave it to the run.
_LEFT_OPEN = (None, "auto")


def said(values: Any, *keys: str) -> bool:
    """Whether a setting was given a value; a whole group that was given counts for each of its settings.

    Args:
        values: Nested values.
        keys: Of each level, down to the setting.
    """
    for key in keys:
        if isinstance(values, Settings):
            return True
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return values not in _LEFT_OPEN


def unsaid(words: Mapping[str, Any], values: Any) -> dict[str, Any]:
    """Nested ``words`` without those that have a value in ``values``."""
    left: dict[str, Any] = {}
    for key, word in words.items():
        if said(values, key) and not isinstance(word, Mapping):
            continue
        if isinstance(word, Mapping):
            inner = values.get(key) if isinstance(values, Mapping) else values
            below = {} if isinstance(inner, Settings) else unsaid(word, inner)
            left |= {key: below} if below else {}
        else:
            left[key] = word
    return left


def standing(settings: TrainSettings, words: Sequence[str]) -> list[str]:
    """Of words that were chosen, what still counts beside what is said: other values take their place.

    A bare word that another value of a stage overrides stands for the other stages by name.
    """
    kept: list[str] = []
    for word in words:
        routed, _ = route_known(nest([word]), CHAIN)
        # Words for a stage would have it take part.
        stages = {name: asked for name, asked in routed.items() if asked and (name != "pretrain" or settings.pretrains)}
        left = {name: asked for name, asked in stages.items() if not _told_otherwise(asked, getattr(settings, name))}
        kept += [word] if len(left) == len(stages) else assignments(left)
    return kept


def _told_otherwise(word: Mapping[str, Any], values: Any) -> bool:
    """Whether nested values hold another value for the one word."""
    ((key, asked),) = word.items()
    if not said(values, key):
        return False
    now = getattr(values, key) if isinstance(values, Settings) else values[key]
    return (
        _told_otherwise(asked, now)
        if isinstance(asked, Mapping)
        else assignments({"": now}) != assignments({"": asked})
    )


def completed(settings: TrainSettings, words: Mapping[str, Any]) -> TrainSettings:
    """The settings with values for what was not said; a bare key goes to every stage that has it."""
    routed, _ = route_known(words, CHAIN)
    stages = {name: getattr(settings, name) for name in CHAIN}
    return settings.model_copy(
        update={name: merge(values, unsaid(routed[name], values)) for name, values in stages.items()}
    )


def given_steps(settings: TrainSettings) -> dict[str, int]:
    """Stage → steps that were said, of the stages that take part."""
    names = ("pretrain", "finetune") if settings.pretrains else ("finetune",)
    stages = {name: getattr(settings, name) for name in names}
    return {name: int(values["steps"]) for name, values in stages.items() if said(values, "steps")}
