"""The built page: all of it is in the wheel, with the licences of what it is made of, and it asks for nothing else."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
PAGE = ROOT / "src" / "fewlabel" / "service" / "view" / "page"
BUILT = PAGE / "built"


def test_the_wheel_holds_the_built_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["fewlabel"]
    packed = {file for pattern in patterns for file in (ROOT / "src" / "fewlabel").glob(pattern)}
    assert {path.name for path in BUILT.iterdir()} == {"index.html", "page.css", "page.js", "licences.txt"}
    assert set(BUILT.iterdir()) <= packed


def test_every_package_in_it_comes_with_its_licence() -> None:
    packages = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    used = {
        f"{path.removeprefix('node_modules/')} {about['version']} ({about['license']})"
        for path, about in packages.items()
        if path and not (about.get("dev") or about.get("optional"))
    }
    text = (BUILT / "licences.txt").read_text()
    assert "@niivue/niivue 0.69.0 (BSD-2-Clause)" in used
    assert set(re.findall(r"^={80}\n\n(.+)\n\n", text, re.MULTILINE)) == used
    assert all(re.search("copyright|permission", part, re.IGNORECASE) for part in text.split("=" * 80)[1:])


def test_the_page_asks_for_its_own_files_alone() -> None:
    html = (BUILT / "index.html").read_text()
    assert set(re.findall(r'(?:src|href)="([^"]*)"', html)) == {"data:,", "page.css", "page.js", "licences.txt"}
    assert not re.search(r"url\(|@import", (BUILT / "page.css").read_text())
    # What was written by hand is built as it is.
    for name in ("index.html", "page.css"):
        assert (BUILT / name).read_text() == (PAGE / "src" / name).read_text()
