"""Settings as rows for help, docs and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticUndefined

from fewlabel.core.config import Settings, default_of, group_fields, plugin_fields, plugin_name
from fewlabel.core.discovery import load_plugin
from fewlabel.core.values import show_value, type_name


def describe(
    settings: type[Settings], prefix: str = "", *, chosen: Mapping[str, Any] | None = None, base: Settings | None = None
) -> list[dict[str, str]]:
    """A row per setting: key, type, default, unit, source, doc; groups and plug-ins with rows of their own.

    Args:
        settings: The class to describe.
        prefix: Put before each key.
        chosen: Nested values; a plug-in named here is described in place of the default one.
        base: Instance whose values are the defaults, where they are not those of the class.

    Raises:
        SettingsError: If ``chosen`` names an unknown plug-in.
    """
    rows: list[dict[str, str]] = []
    plugins = plugin_fields(settings)
    groups = group_fields(settings)
    for name, field in settings.model_fields.items():
        default = default_of(settings, name, base)
        picked = (chosen or {}).get(name)
        if name in groups:
            start = default if isinstance(default, Settings) else None
            inner = picked if isinstance(picked, Mapping) else None
            rows.extend(describe(type(start) if start else groups[name], f"{prefix}{name}.", chosen=inner, base=start))
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        row = {
            "key": f"{prefix}{name}",
            "type": "name" if name in plugins else type_name(field.annotation),
            "default": "required" if default is PydanticUndefined else show_value(default),
            "unit": str(extra.get("unit", "")),
            "source": str(extra.get("source", "")),
            "doc": field.description or "",
        }
        rows.append(row)
        if name in plugins:
            plugin = plugin_name(picked) or plugin_name(default)
            if plugin:
                config = load_plugin(plugins[name], plugin, where=f"{prefix}{name}").Config
                inside = describe(config, f"{prefix}{name}.")
                rows.extend(inner for inner in inside if inner["key"] != f"{prefix}{name}.name")
    return rows
