"""Plug-ins by file name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.core.plugin_discovery import load_plugin, plugin_names

NAMED = 'class Config:\n    name: str = "{}"\n'
FILES = {
    "__init__": "",
    "base": "class Base: ...\nPLUGIN_BASE = Base\n",
    "good": NAMED.format("good") + "from farm.base import Base\nclass Good(Base): ...\n",
    "child": NAMED.format("child") + "from farm.base import Base\nfrom farm.good import Good\nclass Child(Good): ...\n",
    "chain": NAMED.format("chain") + "from farm.base import Base\nclass Middle(Base): ...\nclass Last(Middle): ...\n",
    "twice": NAMED.format("twice") + "from farm.base import Base\nclass One(Base): ...\nclass Two(Base): ...\n",
    "empty": NAMED.format("empty") + "from farm.good import Good\n",
    "broken": NAMED.format("broken") + "raise RuntimeError('imported')\n",
    "shared": 'from farm.base import Base\nclass Shared(Base):\n    name: str = "good"\n',
    "barn/__init__": "",
    "barn/farm": NAMED.format("barn") + "from farm.base import Base\nclass Barn(Base): ...\n",
    "barn/part": "",
    "shed/__init__": "",
    "shed/part": NAMED.format("shed"),
}


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "farm"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "farm"
    for name in [name for name in sys.modules if name.partition(".")[0] == "farm"]:
        del sys.modules[name]


def test_names_come_from_files_and_nothing_is_imported(farm: str) -> None:
    assert plugin_names(farm) == ["barn", "broken", "chain", "child", "empty", "good", "twice"]
    assert not [name for name in sys.modules if name.startswith("farm.")]


def test_the_class_defined_there_is_found(farm: str) -> None:
    assert load_plugin(farm, "good").__name__ == "Good"
    assert load_plugin(farm, "child").__name__ == "Child"


def test_a_package_is_a_plugin_by_its_module_of_the_kind(farm: str) -> None:
    assert load_plugin(farm, "barn").__name__ == "Barn"
    assert load_plugin(farm, "barn").__module__ == "farm.barn.farm"


def test_the_last_of_a_chain_is_the_plugin(farm: str) -> None:
    assert load_plugin(farm, "chain").__name__ == "Last"


@pytest.mark.parametrize(("name", "count"), [("twice", 2), ("empty", 0)])
def test_a_file_defines_one_plugin(farm: str, name: str, count: int) -> None:
    with pytest.raises(SettingsError) as caught:
        load_plugin(farm, name)
    assert caught.value.faults[0].problem == f"a plug-in must define exactly one Base, not {count}"
    assert f"{name}.py" in caught.value.faults[0].where


def test_an_unknown_name_gets_the_near_one_or_the_list(farm: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_plugin(farm, "goood", where="animal")
    fault = caught.value.faults[0]
    assert fault.where == "animal"
    assert fault.problem.endswith('"goood"')
    assert fault.remedy == "Did you mean good?"
    with pytest.raises(SettingsError, match="Choose from barn, broken, chain"):
        load_plugin(farm, "xyz")
    for hidden in ("base", "shared", "shed"):
        with pytest.raises(SettingsError):
            load_plugin(farm, hidden)


def test_the_families_of_the_package_are_listed_without_torch() -> None:
    import subprocess

    code = (
        "import sys; from fewlabel.core.plugin_discovery import plugin_names; "
        "[plugin_names(f'fewlabel.{family}') for family in ('methods', 'regimes', 'readers')]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
