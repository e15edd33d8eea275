"""Plug-ins found by file name: a module of a family's package is a plug-in, its name is the id."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault, SettingsError


def plugin_names(package: str) -> list[str]:
    """Ids of all plug-ins of a family, sorted, without importing any of them.

    Args:
        package: Dotted name of the family, such as ``fewlabel.methods``.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = {module.name for module in pkgutil.iter_modules(map(str, map(Path, folders)))}
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def load_plugin(package: str, name: str, *, where: str = "") -> Any:
    """The one class of ``package.name`` that extends the family's ``PLUGIN_BASE`` and is defined there.

    Args:
        package: Dotted name of the family.
        name: File name of the plug-in without ``.py``.
        where: Key of the choice, for messages.

    Raises:
        SettingsError: If no plug-in has that name, or its file does not define exactly one.
    """
    known = plugin_names(package)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}? " if near else ""
        fault = Fault(
            f"unknown {package.rpartition('.')[2].rstrip('s')}", repr(name), where, f"{remedy}known: {', '.join(known)}"
        )
        raise SettingsError("These settings are not valid:", [fault])
    base = importlib.import_module(f"{package}.base").PLUGIN_BASE
    module = importlib.import_module(f"{package}.{name}")
    classes = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, base) and item.__module__ == module.__name__
    ]
    leaves = [item for item in classes if not any(item in other.__mro__[1:] for other in classes)]
    if len(leaves) != 1:
        fault = Fault(f"a plug-in file defines one {base.__name__}", f"{len(leaves)}", str(module.__file__))
        raise SettingsError("A plug-in is not valid:", [fault])
    return leaves[0]
