"""SIGTERM ends every stage as Ctrl-C does, a full disk says what to free, a lost process is one line."""

from __future__ import annotations

import errno
import os
import signal
from types import SimpleNamespace

import pandas as pd
import pytest
import SimpleITK as sitk

from fewlabel.cli import main
from fewlabel.core import collective, disk_room, stop_signals, unfinished_files
from fewlabel.core.disk_room import full_disk_fault
from fewlabel.core.errors import LostProcessError
from fewlabel.core.stop_signals import stopping_on_signals
from fewlabel.core.unfinished_files import written_beside
from fewlabel.data import store_writer
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines import stage_table
from fewlabel.stages import evaluate, predict, report
from kit.runs import make_run
from kit.scans import nnunet_folder, noise, write_scan
from kit.segmenters import disc_plan, make_segmenter, prepared_discs

SIGNALS = [signal.SIGINT, *stop_signals.STOPPING]


def code_of(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


def at(function, count, number):
    """A function that receives a signal at its call of that count."""
    calls = iter(range(1, 100))

    def wrapper(*args, **more):
        if next(calls) == count:
            signal.raise_signal(number)
        return function(*args, **more)

    return wrapper


@pytest.fixture(autouse=True)
def usual_handlers():
    """Where tests run in the background of a shell some signals are ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in stop_signals.STOPPING}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_predict_records_what_it_wrote(tmp_path, monkeypatch, capsys, number):
    model = make_segmenter(tmp_path / "segmenter", disc_plan())
    for name in "abc":
        write_scan(tmp_path / f"in/{name}.nii", noise())
    monkeypatch.setattr(predict.segmentation, "ScanPreparation", at(predict.segmentation.ScanPreparation, 2, number))
    words = ["predict", model, tmp_path / "in", "--out", tmp_path / "out", "device=cpu"]
    assert code_of(*words) == 130
    assert capsys.readouterr().err.endswith("Interrupted.\n")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"a.nii", "predictions.csv", "manifest.json"}
    assert not any(name.startswith(".") or name == "unfinished.jsonl" for name in names)
    assert pd.read_csv(tmp_path / "out/predictions.csv")["output"].tolist() == ["a.nii"]


@pytest.mark.parametrize("number", SIGNALS)
def test_prepare_evaluate_and_report_leave_nothing(tmp_path, monkeypatch, number):
    data = nnunet_folder(tmp_path / "data")
    run = make_run(tmp_path / "run", subjects=8, size=(32, 32), unlabelled=2)
    store = prepared_discs(tmp_path / "discs", test=("s3",))
    model = make_segmenter(tmp_path / "segmenter", PreparedStore(store).plan, [store], labelled_subjects=["s1"])
    before = sorted(tmp_path.rglob("*"))
    for module, name, words in (
        (store_writer, "ScanPreparation", ["prepare", data, "--out", tmp_path / "p", "workers=1"]),
        (evaluate, "score_case", ["evaluate", store, "--segmenter", model, "--out", tmp_path / "s", "device=cpu"]),
        (report, "write_report", ["report", run, "--out", tmp_path / "r", "unlabelled=0"]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, at(getattr(module, name), 1, number))
            assert code_of(*words) == 130
        assert sorted(tmp_path.rglob("*")) == before


def test_what_is_ignored_or_handled_stays_so():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def own(number, frame):
        return None

    signal.signal(signal.SIGTERM, own)
    with stopping_on_signals():
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGTERM) is own
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_full_disk_names_what_is_largest_there(tmp_path):
    for name, size in (("old/images.npy", 5), ("run/prepared/images.npy", 3), ("small", 0)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0" * size * 2**20)
    partial = unfinished_files.partial_beside(tmp_path / "run/encoder")
    fault = full_disk_fault(partial / "checkpoint.safetensors")
    assert fault.where == str(tmp_path / "run/encoder")
    assert fault.remedy.endswith(f"Largest there: {tmp_path / 'old'} (5.0 MiB), {tmp_path / 'run'} (3.0 MiB)")
    assert "is no room" in full_disk_fault(None).problem
    assert str(full_disk_fault(tmp_path / "no/such/folder/x", 3 * 2**30)).count("3.0 GiB are needed") == 1


def test_libraries_that_hide_a_full_disk_do_not(tmp_path, monkeypatch, capsys):
    def write(*_, **__):
        raise RuntimeError("sitk::ERROR: could not write")

    model = make_segmenter(tmp_path / "segmenter", disc_plan())
    write_scan(tmp_path / "a.nrrd", noise())
    monkeypatch.setattr(sitk, "WriteImage", write)
    words = ["predict", model, tmp_path / "a.nrrd", "--out", tmp_path / "out", "device=cpu"]
    assert code_of(*words) == 3
    for module in (unfinished_files, disk_room):
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert code_of(*words) == 6
    told = " ".join(capsys.readouterr().err.split())
    assert "The disk is full" in told
    assert "a.nrrd: no room on its disk: 0 bytes free" in told
    with pytest.raises(OSError, match="No space left") as caught, written_beside(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "x")


def test_a_lost_process_is_one_line(monkeypatch, capsys):
    words = "[/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer"

    def lost(*_, **__):
        raise RuntimeError(words)

    monkeypatch.setattr(report, "run", lost)
    with pytest.raises(RuntimeError, match="gloo"):
        stage_table.run_stage("report", None)
    monkeypatch.setattr(collective, "world_size", lambda: 2)
    with pytest.raises(LostProcessError):
        stage_table.run_stage("report", None)
    assert code_of("report", "run") == 7
    assert " ".join(capsys.readouterr().err.split()) == (
        "Another process of this run has ended, hangs or cannot be reached; start all of them again with --resume, "
        "which goes on from the state that was saved last."
    )
