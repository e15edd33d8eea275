"""What made a result: the commit of the sources, and facts of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewlabel.core import provenance


def test_outside_a_checkout_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.git_revision() == ""
    monkeypatch.setattr(provenance.shutil, "which", lambda name: None)
    assert provenance.git_revision() == ""


def test_threads_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert provenance.machine_facts()["threads"] == 7
    monkeypatch.delitem(provenance.sys.modules, "torch")
    assert provenance.machine_facts()["threads"] == 1
