"""What tests take of the package, and how many changed lines they notice: rows and their table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fewlabel.core.provenance import git_revision

#: Packages that results hang on, which are mutated and whose coverage is said by itself.
CORE = ("protocol", "scoring", "gradients")
#: Exit codes of tests under a mutant that mutmut counts as noticed: failed, internal error, and its kinds of time-out.
_KILLED, _TIMEOUT, _UNTESTED = {1, 3}, {36, 24, 152, -24, 255}, {33, 5}


def coverage_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for the package and one for each of :data:`CORE`.

    Args:
        report: As ``coverage json`` writes it, of a run by branch.
    """
    files = {name.replace("\\", "/"): values["summary"] for name, values in report["files"].items()}
    rows = []
    for part in ("", *CORE):
        own = [values for name, values in files.items() if f"fewlabel/{part}" in name]
        counts = {
            "lines": sum(values["num_statements"] for values in own),
            "lines_taken": sum(values["covered_lines"] for values in own),
            "branches": sum(values["num_branches"] for values in own),
            "branches_taken": sum(values["covered_branches"] for values in own),
        }
        rows.append({"what": "coverage", "of": part or "the package", **counts, **_when()})
    return rows


def mutation_rows(folder: Path) -> list[dict[str, Any]]:
    """A row for each of :data:`CORE` whose mutants were tried.

    Args:
        folder: ``mutants``, as ``mutmut run`` leaves it.
    """
    rows = []
    for part in CORE:
        codes: list[int | None] = []
        for file in sorted((folder / "src" / "fewlabel" / part).rglob("*.py.meta")):
            codes += json.loads(file.read_text())["exit_code_by_key"].values()
        found = Counter(_fate(code) for code in codes if code is not None)
        if found:
            rows.append({"what": "mutation", "of": part, "mutants": sum(found.values()), **found, **_when()})
    return rows


def _fate(code: int) -> str:
    if code in _KILLED or code in _TIMEOUT:
        return "noticed"
    return "untested" if code in _UNTESTED else "survived"


def _when() -> dict[str, str]:
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "revision": git_revision()}


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The last row of each kind and package: shares of lines and branches taken, and of mutants noticed."""
    last = {(row["what"], row["of"]): row for row in rows}
    lines = ["| | lines taken | branches taken | both | changed lines noticed |", "|---|---:|---:|---:|---:|"]
    for part in ("the package", *CORE):
        taken, mutated = last.get(("coverage", part)), last.get(("mutation", part))
        cells = [part if part == "the package" else f"`{part}`", "", "", "", ""]
        if taken is not None:
            pairs = [(taken[f"{kind}_taken"], taken[kind]) for kind in ("lines", "branches")]
            both = tuple(map(sum, zip(*pairs, strict=True)))
            cells[1:4] = [f"{_share(*pair)} of {_spaced(pair[1])}" for pair in pairs] + [_share(*both)]
        if mutated is not None:
            cells[4] = f"{_share(mutated.get('noticed', 0), mutated['mutants'])} of {_spaced(mutated['mutants'])}"
        if taken is not None or mutated is not None:
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", f"Counted {' and '.join(_days(last.values()))}."]


def _days(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({f"{row['date'][:10]} by `{row['revision'][:10]}`" for row in rows})


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")
