"""Recipes: named sets of settings in YAML, shipped with the package or written by the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.suggestions import did_you_mean
from fewlabel.pipelines.yaml_files import ENDINGS, read_settings_file

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
    if path.suffix not in ENDINGS:
        path = FOLDER / f"{name}.yaml"
    values = read_settings_file(path, "recipe")
    if values is None:
        raise SettingsError("A recipe cannot be used:", [_unknown(str(name))])
    description = values.pop("description", "")
    return Recipe(path.stem, str(description), values)


def _unknown(name: str) -> Fault:
    if Path(name).suffix in ENDINGS:
        return Fault(f"{name} does not exist", "--recipe", "Check the path")
    remedy = did_you_mean(name, recipe_names())
    return Fault(f'"{name}" is neither a recipe of this version nor a .yaml file', "--recipe", remedy)
