"""Examples in docstrings and in the guide do what they show."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fewlabel
from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from kit.stores import make_store

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ("fewlabel.methods", "fewlabel.regimes")
PLUGINS = [(family, name) for family in FAMILIES for name in plugin_names(family)]
#: In the order in which they are run: what one leaves, later ones take.
FUNCTIONS = (
    "prepare",
    "merge",
    "relabel",
    "suggest",
    "pretrain",
    "finetune",
    "evaluate",
    "predict",
    "export",
    "train",
    "report",
    "learn",
    "demo",
    "study",
)
SAMPLE = re.compile(r"<!-- sample: (\w+)/(\w+)\.py -->\n```python\n(.*?)```", re.DOTALL)
SMALL = {"network": {"width": 4, "depth": 3}, "steps": 3, "batch": 4, "device": "cpu", "precision": "32"}


def run_example(item: Any, name: str, **names: Any) -> None:
    """Run the one example of a docstring."""
    found = doctest.DocTestParser().get_doctest(item.__doc__ or "", names, name, name, 0)
    assert found.examples, f"{name} shows no example"
    said: list[str] = []
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found, out=said.append)
    assert outcome.failed == 0, "".join(said)


def run_plugin(kind: type) -> None:
    names = runpy.run_path(str(ROOT / "docs" / "examples.py"))
    run_example(kind, kind.__name__, **{**names, kind.__name__: kind})


@pytest.mark.parametrize(("family", "name"), PLUGINS)
def test_the_example_of_every_method_and_regime(family: str, name: str) -> None:
    run_plugin(load_plugin(family, name))


def test_the_examples_of_the_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun = re.search(r"begun with::\n\n(.*?)\n\n\S", fewlabel.__doc__ or "", re.DOTALL)
    assert begun is not None
    exec(re.sub(r"^    ", "", begun[1], flags=re.MULTILINE), {})
    for name in FUNCTIONS:
        run_example(getattr(fewlabel, name), name, fewlabel=fewlabel)
    assert (tmp_path / "page").is_dir()


def test_no_function_is_left_out() -> None:
    assert {name for name in fewlabel.__all__ if inspect.isfunction(getattr(fewlabel, name))} == set(FUNCTIONS)


@pytest.fixture
def samples(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The files of the guide, each where its family is looked for: family → name."""
    files = {
        f"fewlabel.{family}": (name, code)
        for family, name, code in SAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text())
    }
    assert set(files) == set(FAMILIES)
    for family, (name, code) in files.items():
        folder = tmp_path / "added" / family
        folder.mkdir(parents=True)
        (folder / f"{name}.py").write_text(code)
        importlib.import_module(family).__path__.append(str(folder))
    yield {family: name for family, (name, _) in files.items()}
    for family, (name, _) in files.items():
        package = importlib.import_module(family)
        package.__path__.pop()
        sys.modules.pop(f"{family}.{name}", None)
        vars(package).pop(name, None)


def test_the_samples_of_the_guide_are_found_and_train(samples: dict[str, str], tmp_path: Path) -> None:
    method, regime = samples["fewlabel.methods"], samples["fewlabel.regimes"]
    for family, name in samples.items():
        assert name in plugin_names(family)
        run_plugin(load_plugin(family, name))
    store = make_store(tmp_path / "prepared", subjects=4, depth=3, size=(32, 32))
    encoder = fewlabel.pretrain(data=store, out=tmp_path / "encoder", method={"name": method, "dim": 8}, **SMALL)
    fewlabel.finetune(data=store, out=tmp_path / "segmenter", encoder=encoder, labelled=1, regime=regime, **SMALL)
    for folder, term in (("encoder", "views"), ("segmenter", "ours")):
        assert term in (tmp_path / folder / "metrics.jsonl").read_text()
