"""Values as users write them: words of the command line, nested mappings, names of types."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from fewlabel.core.errors import Fault, SettingsError

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_TYPES = {int: "whole number", float: "number", str: "text", bool: "true | false", Path: "path", type(None): "null"}


def parse_value(text: str) -> Any:
    """A command-line value as bool, None, number, list or text: ``true``, ``null``, ``1e-3``, ``[a, b]``."""
    stripped = text.strip()
    lowered = stripped.lower()
    if lowered in {"true", "false"}:
        return lowered == "true"
    if lowered == "null":
        return None
    if stripped.startswith("[") and stripped.endswith("]"):
        inner = stripped[1:-1].strip()
        return [parse_value(part.strip().strip("\"'")) for part in inner.split(",")] if inner else []
    # Identifiers such as 007 keep their zeros: they are names, not numbers.
    if _INTEGER.fullmatch(stripped):
        return int(stripped)
    return float(stripped) if _NUMBER.fullmatch(stripped) else stripped


def nest(assignments: Iterable[str]) -> dict[str, Any]:
    """``["method=gcl", "method.temperature=0.2"]`` as nested values; later ones win.

    Raises:
        SettingsError: Naming every word that is not ``key=value``.
    """
    nested: dict[str, Any] = {}
    faults = []
    for word in assignments:
        key, equals, text = word.partition("=")
        if not equals or not key or not all(key.split(".")):
            faults.append(Fault("settings are written key=value", repr(word), "command line", "e.g. steps=400"))
            continue
        value: Any = parse_value(text)
        for part in reversed(key.split(".")):
            value = {part: value}
        nested = merge(nested, value)
    if faults:
        raise SettingsError("The command line is not valid:", faults)
    return nested


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; ``over`` wins, a bare name joins a plug-in's settings as its name.

    Naming another plug-in drops the settings of the one named before.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(value, Mapping):
            start = old if isinstance(old, Mapping) else {"name": old} if isinstance(old, str) else {}
            if isinstance(value.get("name"), str) and start.get("name", value["name"]) != value["name"]:
                start = {}
            merged[key] = merge(start, value)
        elif isinstance(old, Mapping) and isinstance(value, str):
            keep = "name" not in old or old["name"] == value
            merged[key] = {**(old if keep else {}), "name": value}
        else:
            merged[key] = value
    return merged


def as_text_where_due(annotation: Any, value: Any) -> Any:
    """A whole number as text where the type takes text and no number: ``precision=32``, ``subjects=[42, 7]``.

    Args:
        annotation: Type of the setting.
        value: A value as given; lists item by item.
    """
    leaves = _leaves(annotation)
    if isinstance(value, list | tuple):
        items = [get_args(leaf)[0] for leaf in leaves if get_origin(leaf) is tuple and get_args(leaf)]
        return type(value)(as_text_where_due(items[0], item) for item in value) if len(items) == 1 else value
    if type(value) is not int or any(leaf in (int, float) or type(leaf) is int for leaf in leaves):
        return value
    return str(value) if str in leaves or Path in leaves or str(value) in leaves else value


def _leaves(annotation: Any) -> list[Any]:
    """The alternatives of a type: classes, members of literals, and tuple types as they are."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [leaf for part in get_args(annotation) for leaf in _leaves(part)]
    if origin is Annotated:
        return _leaves(get_args(annotation)[0])
    return list(get_args(annotation)) if origin is Literal else [annotation]


def show_value(value: Any) -> str:
    """A value as it is written on the command line; a plug-in by its name."""
    if isinstance(value, BaseModel):
        return str(getattr(value, "name", type(value).__name__))
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def type_name(annotation: Any) -> str:
    """A type in words: ``whole number | null``, ``list of numbers``."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is None:
        name = _TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)))
    elif origin in (Union, types.UnionType):
        name = " | ".join(type_name(part) for part in arguments)
    elif origin is Annotated:
        name = type_name(arguments[0])
    elif origin is tuple and arguments[-1] is Ellipsis:
        name = f"list of {type_name(arguments[0])}"
    elif origin is tuple:
        name = f"[{', '.join(type_name(part) for part in arguments)}]"
    elif origin is Literal:
        name = " | ".join(show_value(part) for part in arguments)
    else:
        name = "keys and values" if issubclass(origin, Mapping) else str(annotation)
    return name
