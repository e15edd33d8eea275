"""Nothing is written outside of the place that was asked for: no link is followed, no name leads elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fewlabel.core.errors import FewlabelError, SettingsError
from fewlabel.core.output_paths import as_file_name
from fewlabel.data.io.hdf5_and_npz_arrays import Address
from fewlabel.engine.lock import LOCK
from fewlabel.stages import export, finetune, predict, prepare, report
from fewlabel.stages.predict.mask_names import named_scans
from fewlabel.stages.report import ReportSettings
from kit.changed import encoder_that_saw
from kit.runs import make_run
from kit.scans import blob, noise, write_scan
from kit.segmenters import disc_plan, make_segmenter, prepared_discs
from kit.stores import make_store
from kit.tiny import finetune_settings


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_segmenter(tmp_path_factory.mktemp("model") / "segmenter", disc_plan())


def run_predict(model, scans, out, **over):
    values = {"model": model, "scans": scans, "out": out, "device": "cpu", **over}
    return predict.run(predict.PredictSettings.parse(values))


def below(top: Path) -> dict[str, bytes]:
    """Every file below a folder; links are not entered."""
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}


def planted(out: Path, names, victims: Path) -> dict[str, bytes]:
    """A link in the place of each file, to a file of somebody else."""
    victims.mkdir(parents=True)
    for number, name in enumerate(names):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (victims / str(number)).write_text(f"mine {name}")
        (out / name).symlink_to(victims / str(number))
    return below(victims)


@pytest.mark.parametrize("form", ["auto", "seg_nrrd", "bids"])
def test_no_file_of_predict_is_written_through_a_link(model, tmp_path, form):
    write_scan(tmp_path / "in/a.nii.gz", noise())
    asked = {"format": form, "probabilities": True, "uncertainty": True}
    names = sorted(below(run_predict(model, tmp_path / "in", tmp_path / "usual", **asked)))
    assert len(names) >= 6
    # The record of an unfinished call, and the lock, are gone when it ends.
    for links in ([name for name in names if name != "manifest.json"], ["manifest.json"], ["unfinished.jsonl"], [LOCK]):
        out, victims = tmp_path / f"out{len(links)}{links[0]}", tmp_path / f"victims{len(links)}{links[0]}"
        before = planted(out, links, victims)
        try:
            run_predict(model, tmp_path / "in", out, overwrite=True, **asked)
        except (FewlabelError, OSError) as error:
            refused = str(error)
        else:
            refused = ""
            assert sorted(below(out)) == names
            assert not any(path.is_symlink() for path in out.rglob("*"))
        assert below(victims) == before
        assert not refused or len(links) == 1


def test_two_files_of_one_name_are_no_files(model, tmp_path):
    for name in ("a.nii", "a_probabilities.nii"):
        write_scan(tmp_path / name, noise())
    (tmp_path / "t.csv").write_text("image\na.nii\na_probabilities.nii\n")
    with pytest.raises(SettingsError, match=r"a_probabilities\.nii would be written twice"):
        run_predict(model, tmp_path / "t.csv", tmp_path / "out", probabilities=True)
    assert not (tmp_path / "out").exists()
    assert len(list(run_predict(model, tmp_path / "t.csv", tmp_path / "out").glob("*.nii"))) == 2


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", ".hidden", "a/b", "a\\b", "a\0b", "n" * 300, "%2e", ""])
def test_a_name_of_a_scan_is_no_path(tmp_path, name):
    scans = named_scans([((Address(tmp_path / "v.h5", "image", "zyx", (1.0, 1.0, 1.0)).path,), name)], tmp_path)
    output = scans[0].output
    assert output.parent == Path()
    assert (tmp_path / output).resolve().parent == tmp_path.resolve()
    assert len(output.name.encode()) < 255 - 80


def test_names_of_people_stay_as_they_are_and_apart():
    for name in ("patient 01", "sub-01", "Größe", "set:a", "a.b"):
        assert as_file_name(name) == name
    names = ["a/\udcff", "a/b", "a\\b", "a%2fb", "a%b", ".a", "%2ea", "x" * 121, "x" * 122, "a\tb"]
    assert len({as_file_name(name) for name in names}) == len(names)


def test_the_name_of_a_patient_leads_nowhere(tmp_path):
    home = tmp_path / "a/b/c/d"
    rows = ["image,label,subject,case"]
    for number in range(4):
        write_scan(home / f"s{number}.nii", noise((3, 16, 16), number))
        write_scan(home / f"m{number}.nii", blob((3, 16, 16)))
        rows.append(f"s{number}.nii,m{number}.nii,p{number}/../../../../evil{number},../../../e{number}")
    (home / "t.csv").write_text("\n".join(rows) + "\n")
    store = prepare.run(
        prepare.PrepareSettings.parse({"data": home / "t.csv", "out": home / "p", "size": [16, 16], "workers": 1})
    )
    settings = finetune_settings(store, home / "out", labelled=2, steps=1, expect="always", mode="scratch")
    finetune.run(settings)
    assert any(path.name.startswith("left-out-p") for path in (home / "out").iterdir())
    export.run(export.ExportSettings.parse({"source": store, "to": "nnunet_raw", "out": home / "nn"}))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "a/b/c").iterdir()] == ["d"]
    assert {path.name for path in home.iterdir() if path.is_dir()} == {"p", "out", "nn"}


def test_export_replaces_a_link_and_follows_none(tmp_path):
    store = make_store(tmp_path / "store", subjects=3, depth=2, size=(16, 16))
    encoder = encoder_that_saw(tmp_path / "encoder", store, (), depth=5)
    before = planted(tmp_path / "out", ["e.safetensors", "e.json"], tmp_path / "victims")
    values = {"source": encoder, "to": "monai", "out": tmp_path / "out/e.safetensors", "overwrite": True}
    export.run(export.ExportSettings.parse(values))
    assert below(tmp_path / "victims") == before
    assert not (tmp_path / "out/e.safetensors").is_symlink()


@pytest.mark.parametrize("name", ["nnUNet_raw", "nnUNet_preprocessed"])
def test_a_folder_of_nnunet_that_lies_elsewhere_is_left_alone(tmp_path, name):
    store = prepared_discs(tmp_path / "discs", test=("s3",))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    values = {"source": store, "to": "nnunet_raw", "out": tmp_path / "out", "overwrite": True}
    with pytest.raises(SettingsError, match=r"outside of --out\. Remove the link"):
        export.run(export.ExportSettings.parse(values))
    assert below(tmp_path / "elsewhere") == {}


def test_the_report_of_a_run_is_in_the_run(tmp_path):
    run = make_run(tmp_path / "run", subjects=8, size=(32, 32), unlabelled=2)
    other = report.run(ReportSettings(run=run, out=tmp_path / "other", device="cpu", unlabelled=0))
    before = below(other)
    shutil.rmtree(run / "report", ignore_errors=True)
    (run / "report").symlink_to(other, target_is_directory=True)
    with pytest.raises(SettingsError, match="outside of the run"):
        report.run(ReportSettings(run=run, device="cpu"))
    assert below(other) == before


def test_the_record_of_steps_is_not_written_through_a_link(tmp_path):
    from fewlabel.core.artifact.files import append_line

    (tmp_path / "victim").write_text("mine")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"symbolic|Too many levels"):
        append_line(tmp_path / "metrics.jsonl", "{}")
    assert (tmp_path / "victim").read_text() == "mine"
    assert np.all([not path.name.startswith(".") for path in tmp_path.iterdir()])
