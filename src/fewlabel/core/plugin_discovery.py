"""Plug-ins, found by file name: a module whose settings name it, or a package with such a module."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.suggestions import did_you_mean


def plugin_names(package: str) -> list[str]:
    """Ids of all plug-ins of a family, sorted, without importing any of them.

    Whatever else a family's package holds, such as modules that plug-ins share, does not name itself.

    Args:
        package: Dotted name of the family, such as ``fewlabel.methods``.
    """
    return sorted(_modules(package))


def load_plugin(package: str, name: str, *, where: str = "") -> Any:
    """The one class of a plug-in's module that extends the family's ``PLUGIN_BASE`` and is defined there.

    The module is ``package.name``; of a plug-in that is a package itself ``package.name.method``, after the family
    ``package.methods``.

    Args:
        package: Dotted name of the family.
        name: Id of the plug-in: its file without ``.py``, or its folder.
        where: Key of the choice, for messages.

    Raises:
        SettingsError: If no plug-in has that name, or its module does not define exactly one.
    """
    known = _modules(package)
    if name not in known:
        fault = Fault(f'unknown {_kind(package)} "{name}"', where, did_you_mean(name, sorted(known)))
        raise SettingsError("These settings are not valid:", [fault])
    base = importlib.import_module(f"{package}.base").PLUGIN_BASE
    module = importlib.import_module(known[name])
    classes = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, base) and item.__module__ == module.__name__
    ]
    leaves = [item for item in classes if not any(item in other.__mro__[1:] for other in classes)]
    if len(leaves) != 1:
        fault = Fault(f"a plug-in must define exactly one {base.__name__}, not {len(leaves)}", str(module.__file__))
        raise SettingsError("A plug-in is not valid:", [fault])
    return leaves[0]


def _kind(package: str) -> str:
    return package.rpartition(".")[2].rstrip("s")


def _modules(package: str) -> dict[str, str]:
    """Id → dotted name of the module of each plug-in."""
    spec = importlib.util.find_spec(package)
    modules: dict[str, str] = {}
    inner = _kind(package)
    for folder in spec.submodule_search_locations or [] if spec else []:
        with os.scandir(folder) as entries:
            # A data set is held against every reader: this is asked often, and a walk by Path takes ten times as long.
            for entry in entries:
                name, ending = os.path.splitext(entry.name)  # noqa: PTH122
                if ending == ".py" and _names_itself(entry.path, name, entry.stat().st_mtime_ns):
                    modules[name] = f"{package}.{name}"
                elif not ending:
                    own = f"{entry.path}/{inner}.py"
                    if (stamp := _stamp(own)) is not None and _names_itself(own, name, stamp):
                        modules[name] = f"{package}.{name}.{inner}"
    return modules


def _stamp(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return None


@cache
def _names_itself(path: str, name: str, stamp: int) -> bool:  # noqa: ARG001
    """Whether settings in a file of that age have that name: ``name: str = "simclr"``."""
    pattern = re.compile(rf'^\s+name: .+ = "{re.escape(name)}"$', re.MULTILINE)
    return pattern.search(Path(path).read_text(encoding="utf-8")) is not None
