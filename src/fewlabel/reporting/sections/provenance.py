"""Where everything came from: settings, versions, machine, seeds, hashes and times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabel.core.artifact.manifest_fields import Manifest
from fewlabel.reporting.blocks import Block, Facts, Folded, Section, Table, Text
from fewlabel.reporting.formatting import DASH, duration

TITLE = "Provenance"
LEAD = "What is needed to repeat this run."
_NOT_SETTINGS = frozenset({"identity"})


def provenance_section(manifests: Mapping[str, Manifest]) -> Section:
    """A row per artifact, the software and machine, and all settings.

    Args:
        manifests: Role of the artifact to its manifest.
    """
    if not manifests:
        return Section("provenance", TITLE, "", [Text("There are no artifacts, so nothing is known.", "missing")])
    rows = [
        [
            role,
            manifest.created.replace("T", " ").replace("+00:00", " UTC"),
            duration(manifest.wall_seconds),
            DASH if manifest.seed is None else str(manifest.seed),
            f"{manifest.device}, {manifest.precision}" if manifest.precision else manifest.device,
            manifest.git_revision or DASH,
            manifest.content_hash[:16],
        ]
        for role, manifest in manifests.items()
    ]
    head = ["Artifact", "created", "duration", "seed", "device", "revision", "content hash"]
    blocks: list[Block] = [Table(head, rows, "Artifacts", frozenset({2, 3}))]
    blocks.append(Facts(_surroundings(list(manifests.values()))))
    for role, manifest in manifests.items():
        settings = {key: value for key, value in manifest.settings.items() if key not in _NOT_SETTINGS}
        if settings:
            body = [[key, value] for key, value in flat(settings)]
            blocks.append(
                Folded(f"Settings of {role} ({len(body)})", Table(["Setting", "value"], body, wrapped=frozenset({1})))
            )
    return Section("provenance", TITLE, LEAD, blocks)


def _surroundings(manifests: list[Manifest]) -> list[tuple[str, str]]:
    """Versions and machine of the artifacts; all that differ are named."""
    facts: dict[str, dict[str, None]] = {}
    for manifest in manifests:
        for name, version in manifest.versions.items():
            facts.setdefault(name, {})[version] = None
        machine = manifest.machine
        if machine:
            description = (
                f"{machine.get('processor', '')}, {machine.get('cores', '?')} cores, {machine.get('system', '')}"
            )
            facts.setdefault("machine", {})[description] = None
            facts.setdefault("threads", {})[str(machine.get("threads", DASH))] = None
            facts.setdefault("load at the end", {})[str(machine.get("load", DASH))] = None
    return [(name, ", ".join(values)) for name, values in facts.items()]


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (``method.temperature``, ``0.1``)."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows.extend(flat(value, f"{prefix}{key}."))
        else:
            shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            rows.append((f"{prefix}{key}", shown))
    return rows
