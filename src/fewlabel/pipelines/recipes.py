"""Recipes: named sets of settings in YAML, shipped with the package or written by the user."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.suggestions import did_you_mean

FOLDER = Path(__file__).resolve().parents[1] / "recipes"


@dataclass(frozen=True)
class Recipe:
    """A recipe as read: its name, its one-line description, and its values.

    ``values`` holds one mapping per stage (``prepare``, ``pretrain``, ``finetune``, ``evaluate``, ``report``), and
    bare settings that go to every stage that knows them.
    """

    name: str
    description: str
    values: Mapping[str, Any] = field(default_factory=dict)


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


def recipe_names() -> list[str]:
    """Names of the recipes shipped with the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name: str | Path) -> Recipe:
    """A shipped recipe by name, or a recipe file by path.

    Args:
        name: ``acdc-lite``, or a path that ends in ``.yaml`` or ``.yml``.

    Raises:
        SettingsError: If there is no such recipe, or it is not a YAML mapping or may not be read.
    """
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        path = FOLDER / f"{name}.yaml"
    try:
        text = path.read_text() if path.is_file() else None
        # The loader is SafeLoader with other patterns for plain scalars: it builds no Python objects.
        content = None if text is None else yaml.load(text, Loader=_Loader)
    except OSError as error:
        why = error.strerror or str(error)
        fault = Fault(f"{path} cannot be read: {why}", remedy="Make it readable, or give another one")
        raise SettingsError("A recipe cannot be used:", [fault]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        fault = Fault(f"{path} is not valid YAML: {' '.join(str(error).split())}", remedy="Correct the file")
        raise SettingsError("A recipe cannot be used:", [fault]) from error
    if text is None:
        raise SettingsError("A recipe cannot be used:", [_unknown(str(name))])
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        problem = f"{path} must map names to settings, not hold a {type(content).__name__}"
        fault = Fault(problem, remedy="Write key: value lines")
        raise SettingsError("A recipe cannot be used:", [fault])
    values = dict(content)
    description = values.pop("description", "")
    return Recipe(path.stem, str(description), values)


def _unknown(name: str) -> Fault:
    if Path(name).suffix in {".yaml", ".yml"}:
        return Fault(f"{name} does not exist", "--recipe", "Check the path")
    remedy = did_you_mean(name, recipe_names())
    return Fault(f'"{name}" is neither a recipe of this version nor a .yaml file', "--recipe", remedy)
