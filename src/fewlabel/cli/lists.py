"""The commands that show what there is: methods, regimes, readers, recipes, settings, version."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from fewlabel.cli.terminal_output import stdout, table

PANEL = "What there is"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (methods, regimes, readers, recipes, settings, version):
        app.command(rich_help_panel=PANEL)(command)


def methods() -> None:
    """Pre-training methods, what they need and cost."""
    _costly("fewlabel.methods")


def regimes() -> None:
    """Ways to fine-tune from few labels, what they need and cost."""
    _costly("fewlabel.regimes")


def readers() -> None:
    """Dataset conventions."""
    _family("fewlabel.readers")


def recipes() -> None:
    """Named sets of settings."""
    from fewlabel.pipelines.recipes import load_recipe, recipe_names

    _show([[name, load_recipe(name).description] for name in recipe_names()], ["name", "what it is"])


def settings(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="prepare, pretrain, finetune, … or train, demo.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Choices, such as method=gcl.")] = None,
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Every setting of a stage: default, unit, meaning, source."""
    from fewlabel.core.settings.value_syntax import nest
    from fewlabel.pipelines.settings_reference import setting_rows

    rows = setting_rows(stage, nest(words or []))
    if as_json:
        stdout().print(json.dumps(rows, indent=2), soft_wrap=True)
    elif markdown:
        from fewlabel.pipelines.settings_reference import markdown_table

        stdout().print(markdown_table(rows), soft_wrap=True)
    else:
        _show([[row["key"], row["default"], _meaning(row)] for row in rows], ["setting", "default", "meaning"])


def version() -> None:
    """Version of fewlabel and of what decides its numbers."""
    from fewlabel.core.provenance import library_versions

    versions = library_versions()
    _show([[name, number] for name, number in versions.items()], ["what", "version"])


def _costly(family: str) -> None:
    from fewlabel.pipelines import methods_and_regimes

    costs = methods_and_regimes.packaged_costs(family)
    rows = []
    for row in methods_and_regimes.plugin_rows(family, costs):
        needs = (row["needs"] or "nothing").replace(", ", ",\n").replace("any of ", "any of\n")
        cost = [row[key] or "not\nmeasured" for key in ("memory", "step")]
        rows.append([row["name"], needs, *cost, f"{row['summary']}.\n{row['paper']}"])
    _show(rows, ["name", "needs", "memory", "step", "what it is, where it is from"])
    stdout().print(f"\n{methods_and_regimes.cost_note(family, costs)}")


def _family(package: str) -> None:
    from fewlabel.core.plugin_discovery import load_plugin, plugin_names

    rows = []
    for name in plugin_names(package):
        plugin = load_plugin(package, name)
        rows.append([name, _first_line(plugin), getattr(plugin, "paper", "") or getattr(plugin, "summary", "")])
    _show(rows, ["name", "what it is", "source"])


def _first_line(plugin: Any) -> str:
    text = (plugin.__doc__ or "").strip()
    return text.splitlines()[0] if text else ""


def _meaning(row: dict[str, str]) -> str:
    doc = row["doc"].rstrip(".")
    unit = f" [{row['unit']}]" if row["unit"] else ""
    kind = f" ({row['type']})" if " | " in row["type"] and row["type"] != "true | false" else ""
    source = f". Source: {row['source']}" if row["source"] else ""
    return f"{doc}{unit}{kind}{source}"


def _show(rows: list[list[str]], heads: list[str]) -> None:
    stdout().print(table(rows, heads, lines=True))
