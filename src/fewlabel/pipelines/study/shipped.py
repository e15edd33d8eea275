"""Where studies come from: shipped ones by name, files of the user, or values of Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.settings.value_syntax import merge
from fewlabel.core.suggestions import did_you_mean
from fewlabel.pipelines.study.spec import Study
from fewlabel.pipelines.study.spec_parsing import parse_study
from fewlabel.pipelines.yaml_files import ENDINGS, read_settings_file

FOLDER = Path(__file__).resolve().parents[2] / "studies"


def study_names() -> list[str]:
    """Names of the studies shipped with the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def study_values(spec: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """What a study says.

    Args:
        spec: Name of a shipped study, a path that ends in ``.yaml`` or ``.yml``, or its values.

    Raises:
        SettingsError: If there is no such study, or its file cannot be used.
    """
    if isinstance(spec, Mapping):
        return dict(spec)
    path = Path(spec)
    known = path.suffix in ENDINGS
    values = read_settings_file(path if known else FOLDER / f"{spec}.yaml", "study")
    if values is None:
        problem = f"{spec} does not exist" if known else f'"{spec}" is neither a study of this version nor a .yaml file'
        remedy = "Check the path" if known else did_you_mean(str(spec), study_names())
        raise SettingsError("A study cannot be used:", [Fault(problem, "SPEC", remedy)])
    return {"name": path.stem, **values}


def study_of(spec: str | Path | Mapping[str, Any], over: Mapping[str, Any] | None = None) -> Study:
    """A study, with settings over it: first those of its size, then the user's.

    Args:
        spec: As for :func:`study_values`.
        over: Nested values that win.

    Raises:
        SettingsError: With every fault.
    """
    values, own = study_values(spec), dict(over or {})
    sizes, size = values.get("sizes", {}), own.get("size", values.get("size", ""))
    if size and isinstance(sizes, Mapping):
        # What is no name at all is told as a fault of the setting.
        if isinstance(size, str) and size not in sizes:
            remedy = did_you_mean(size, [str(name) for name in sizes], otherwise="Leave out size")
            raise SettingsError("The study is not valid:", [Fault(f'there is no size "{size}"', "size", remedy)])
        chosen = sizes[size] if isinstance(size, str) else None
        if chosen is not None and not isinstance(chosen, Mapping):
            fault = Fault(f"must hold settings, not {chosen!r}", f"sizes.{size}", "Write key: value lines")
            raise SettingsError("The study is not valid:", [fault])
        values = merge(values, chosen or {})
    return parse_study(merge(values, own))
