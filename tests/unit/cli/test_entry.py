"""The process as a whole: narrow encodings, Ctrl-C while it still loads."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import pytest

from fewlabel.cli import main


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "fewlabel", *words]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False, timeout=120)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_greek_letters_gets_question_marks(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (("settings", "pretrain"), ("settings", "pretrain", "--json"), ("settings", "τ")):
        streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
        with monkeypatch.context() as patch:
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            with pytest.raises(SystemExit) as end:
                main(words)
        assert end.value.code == (2 if words[1] == "τ" else 0)
        told = streams["stderr" if words[1] == "τ" else "stdout"]
        told.seek(0)
        # JSON has escapes for them.
        assert ("?" in told.read()) == ("--json" not in words)


def test_a_process_in_a_terminal_without_greek_letters_ends_well() -> None:
    done = process("settings", "pretrain", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0


IMPORT_IS_CUT = """
import sys

class Cut:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Cut())
sys.argv = ["fewlabel", "settings", "pretrain"]
import runpy
runpy.run_module("fewlabel", run_name="__main__")
"""


@pytest.mark.parametrize("name", ["typer", "fewlabel.cli.stages", "fewlabel.pipelines.settings_reference", "torch"])
def test_ctrl_c_during_imports_is_one_line(name: str) -> None:
    command = [sys.executable, "-c", IMPORT_IS_CUT.format(name=name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 130
    assert done.stderr == "Interrupted.\n"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_early_on_leaves_no_traceback() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "fewlabel", "settings", "pretrain"]
    # Where the tests run in a shell's background the signal is ignored, and programs inherit that.
    heeding = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", heeding, *command]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        lines: list[str] = []
        stream = running.stderr
        if stream is None:
            raise RuntimeError("no stderr")
        for line in stream:
            lines.append(line)
            # Parts of typer are loaded now.
            if "click" in line or "typer" in line:
                running.send_signal(signal.SIGINT)
                break
        started = time.monotonic()
        lines += list(stream)
        code = running.wait(60)
    assert time.monotonic() - started < 60
    told = [line for line in lines if not line.startswith("import time:")]
    assert code == 130
    assert told == ["Interrupted.\n"]
