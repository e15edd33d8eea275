"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# Several test processes share the cores: a thread of PyTorch that waits for another must not keep it from its core.
# Read when PyTorch is loaded, here and in the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from fewlabel.core import progress

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).resolve().parent))
torch.set_num_threads(1)
# Where Python is told to keep no bytecode, each worker of each run would compile the package and rewrite the assertions
# of all tests anew, which takes as long as all else that comes before the first test.
sys.dont_write_bytecode = False
# What is loaded and collected stays until the end: nothing of it is garbage, now or while tests run.
gc.disable()
# A background shell, nohup and some services have these ignored by what they start, and so by the processes of tests.
if threading.current_thread() is threading.main_thread():
    for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(_number) == signal.SIG_IGN:
            signal.signal(_number, _handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    """Collect the garbage of tests alone."""
    gc.freeze()
    gc.enable()
    try:
        return (yield)
    finally:
        # Hypothesis, which may be loaded for the summary only, asks who refers to a generator of random numbers.
        gc.unfreeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real scans beside the checkout; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real scans are not beside this checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _folder_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keys of pseudonyms that lie in the folder of the user lie in one of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("user")))
        yield


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines that the user is told."""
    lines: list[str] = []

    class Ear(progress._Silence):
        def say(self, text: str) -> None:
            lines.append(text)

    monkeypatch.setattr(progress, "_listener", [Ear()])
    return lines
