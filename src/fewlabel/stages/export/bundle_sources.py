"""The code that a bundle carries: modules of this package as they are, in one folder, importing each other there."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

from fewlabel.core import errors, printable
from fewlabel.data import (
    back_to_scan_grid,
    exact_percentiles,
    orient,
    preprocess,
    resample,
    scanner_padding,
    store,
    voxel_counts,
)
from fewlabel.data.io import composite_paths, geometry
from fewlabel.data.io.dicom import address
from fewlabel.scoring import class_contacts, component_rule, connected_components
from fewlabel.stages.export import bundle_scripts
from fewlabel.stages.export.bundle_scripts import network, predicting

#: The folder, and how it is imported.
PACKAGE = "fewlabel_bundle"
_MODULES: tuple[ModuleType, ...] = (
    address,
    back_to_scan_grid,
    class_contacts,
    component_rule,
    composite_paths,
    connected_components,
    errors,
    exact_percentiles,
    geometry,
    network,
    orient,
    predicting,
    preprocess,
    printable,
    resample,
    scanner_padding,
    voxel_counts,
)
_OWN_IMPORT = re.compile(r"^(\s*)from (fewlabel[\w.]*) import ", re.MULTILINE)


def bundle_sources() -> dict[str, str]:
    """File name → content of the package.

    Raises:
        RuntimeError: If a module imports something of this package that does not go with it.
    """
    sources = {"__init__.py": f'"""{inspect.getdoc(bundle_scripts)}"""\n'}
    for module in _MODULES:
        sources[f"{_short(module)}.py"] = _moved(inspect.getsource(module), module)
    return sources


def _moved(source: str, module: ModuleType) -> str:
    """A module's source with its imports of this package turned to its new neighbours."""
    unlabelled = f"from {store.__name__} import UNLABELLED"
    source = source.replace(unlabelled, f"UNLABELLED = {store.UNLABELLED}")
    known = {other.__name__: _short(other) for other in _MODULES}

    def moved(match: re.Match[str]) -> str:
        if match[2] not in known:
            raise RuntimeError(f"{module.__name__} imports {match[2]}, which a bundle does not carry")
        return f"{match[1]}from .{known[match[2]]} import "

    return _OWN_IMPORT.sub(moved, source)


def _short(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]
