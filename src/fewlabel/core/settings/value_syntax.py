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
# An item in quotes holds commas as they are; quotes inside an item are part of it.
_ITEM = re.compile(r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<plain>[^,]*?))\s*(?:,|$)""")
_TYPES = {int: "whole number", float: "number", str: "text", bool: "true | false", Path: "path", type(None): "null"}


class _Written(float):
    """A number that knows how it was written, for settings that turn out to be text."""

    text: str = ""


def parse_value(text: str) -> Any:
    """A command-line value as bool, None, number, list or text: ``true``, ``null``, ``1e-3``, ``[a, b]``.

    An item of a list in quotes is text, commas and all.
    """
    value = _read(text)
    return float(value) if isinstance(value, _Written) else value


def _read(text: str) -> Any:
    """As :func:`parse_value`; a number with a point or an exponent keeps how it was written."""
    stripped = text.strip()
    lowered = stripped.lower()
    if lowered in {"true", "false"}:
        return lowered == "true"
    if lowered == "null":
        return None
    if stripped.startswith("[") and stripped.endswith("]"):
        return _items(stripped[1:-1].strip())
    # Identifiers such as 007 keep their zeros: they are names, not numbers.
    if _INTEGER.fullmatch(stripped):
        return int(stripped)
    if not _NUMBER.fullmatch(stripped):
        return stripped
    number = _Written(stripped)
    number.text = stripped
    return number


def _items(inner: str) -> list[Any]:
    """The items of a list, written without its brackets."""
    items: list[Any] = []
    # The plain form takes whatever the quoted ones do not, so every place matches.
    match = _ITEM.match(inner) if inner else None
    while match is not None:
        quoted = [match[kind] for kind in ("double", "single") if match[kind] is not None]
        items.append(quoted[0] if quoted else _read(match["plain"]))
        match = _ITEM.match(inner, match.end()) if match[0].endswith(",") else None
    return items


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
            faults.append(Fault(f'"{word}" is not of the form key=value', remedy="Write a setting like steps=400"))
            continue
        value: Any = _read(text)
        for part in reversed(key.split(".")):
            value = {part: value}
        nested = merge(nested, value)
    if faults:
        raise SettingsError("The command line is not valid:", faults)
    return nested


def assignments(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Nested values as the words that :func:`nest` makes them of: ``["method=gcl", "network.width=16"]``.

    A number in a text is that text again where the setting takes text. A group of settings is all it holds.
    """
    words = []
    for key, given in values.items():
        value = given.model_dump(mode="json") if isinstance(given, BaseModel) else given
        if isinstance(value, Mapping):
            words.extend(assignments(value, f"{prefix}{key}."))
        else:
            words.append(f"{prefix}{key}={_written(value)}")
    return words


def _written(value: Any) -> str:
    """A value as a word, without spaces that a shell would take for its end where there need be none."""
    if isinstance(value, list | tuple):
        return f"[{','.join(_item(part) for part in value)}]"
    return value.text if isinstance(value, _Written) else show_value(value)


def _item(value: Any) -> str:
    """An item of a list; text that would be read otherwise is quoted."""
    text = _written(value)
    plain = bool(text) and "," not in text and not text.startswith(('"', "'"))
    if not isinstance(value, str) or (plain and _read(text) == value):
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'


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
    """A number as text where the type takes text and no number: ``precision=32``, ``subjects=[42, 1e3]``.

    A number with a point or an exponent becomes the text that was written, if it comes from the command line.

    Args:
        annotation: Type of the setting.
        value: A value as given; lists item by item.
    """
    leaves = _leaves(annotation)
    if isinstance(value, list | tuple):
        items = [get_args(leaf)[0] for leaf in leaves if get_origin(leaf) is tuple and get_args(leaf)]
        return type(value)(as_text_where_due(items[0], item) for item in value) if len(items) == 1 else value
    written = isinstance(value, _Written)
    plain = float(value) if written else value
    text = value.text if written else str(value) if type(value) is int else None
    if text is None or any(leaf in (int, float) or type(leaf) is int for leaf in leaves):
        return plain
    return text if str in leaves or Path in leaves or text in leaves else plain


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


def quoted(value: Any) -> str:
    """A value as messages have it: as on the command line, but text in quotes."""
    if isinstance(value, str | Path):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(quoted, value))}]"
    return show_value(value)


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
