"""Settings in YAML files: those of recipes and of studies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fewlabel.core.errors import Fault, SettingsError

#: What its loader raises on a text that is no YAML, or whose tags do not fit their values.
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
ENDINGS = frozenset({".yaml", ".yml"})
#: What a file may hold in place of settings, in words.
_WORDS = {type(None): "nothing", list: "a list", dict: "names that are no text"}


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: ``1e-3`` is a number, ``002`` and ``yes`` are text, as on the command line."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def read_settings_file(path: Path, what: str) -> dict[str, Any] | None:
    """Nested values of a file; None if it does not exist.

    Args:
        path: The file.
        what: What it is, for messages: ``recipe`` or ``study``.

    Raises:
        SettingsError: If it is not a YAML mapping or may not be read.
    """
    cannot = f"A {what} cannot be used:"
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else None
        if text is not None:
            _refuse_endless_and_doubled(yaml.compose(text, Loader=_Loader))
        # The loader is SafeLoader with other patterns for plain scalars: it builds no Python objects.
        content = None if text is None else yaml.load(text, Loader=_Loader)
    except OSError as error:
        why = error.strerror or str(error)
        fault = Fault(f"{path} cannot be read: {why}", remedy="Make it readable, or give another one")
        raise SettingsError(cannot, [fault]) from error
    except _YAML_ERRORS as error:
        fault = Fault(f"{path} is not valid YAML: {' '.join(str(error).split())}", remedy="Correct the file")
        raise SettingsError(cannot, [fault]) from error
    if text is None:
        return None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        problem = f"{path} must map names to settings, not hold {_WORDS.get(type(content), 'a single value')}"
        raise SettingsError(cannot, [Fault(problem, remedy="Write key: value lines")])
    if nameless := [repr(key) for key in _keys(content) if not isinstance(key, str | int)]:
        problem = f"{path} has {', '.join(nameless)} in the place of a name"
        raise SettingsError(
            cannot, [Fault(problem, remedy="Put the name of a setting there, in quotes if it has to be")]
        )
    return dict(content)


def _keys(content: Any) -> Iterator[Any]:
    """Of mappings at any depth."""
    if isinstance(content, dict):
        yield from content
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from _keys(value)


def _refuse_endless_and_doubled(node: yaml.Node | None, above: tuple[yaml.Node, ...] = ()) -> None:
    """Refuse a value that holds itself, and a key that is there twice: YAML would keep the last one without a word.

    Raises:
        YAMLError: With the line.
    """
    if node is None or isinstance(node, yaml.ScalarNode):
        return
    line = node.start_mark.line + 1
    if any(node is other for other in above):
        raise yaml.YAMLError(f"what begins in line {line} holds itself")
    inner = node.value
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if doubled := [key for at, key in enumerate(keys) if key in keys[:at]]:
            raise yaml.YAMLError(f'"{doubled[0]}" is there twice in what begins in line {line}')
        inner = [value for _, value in node.value]
    for value in inner:
        _refuse_endless_and_doubled(value, (*above, node))
