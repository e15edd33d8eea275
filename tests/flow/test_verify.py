"""Whether a run is what it claims to be: every way of being something else that can be told, and those that cannot."""

import json
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from fewlabel.cli import app
from fewlabel.core.artifact.files import MANIFEST, file_hash
from fewlabel.core.artifact.manifest_fields import content_hash_of
from fewlabel.core.artifact.run_record import read_run, write_run
from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.core.errors import ArtifactError
from fewlabel.pipelines import share, train, verify
from fewlabel.pipelines.verify.findings import agreement
from fewlabel.pipelines.verify.sealed_parts import sealed_parts
from fewlabel.scoring.summary import summarise
from kit.segmenters import raw_folder

SMALL = {
    "prepare": {"size": [32, 32]},
    "pretrain": {"steps": 3, "batch": 4, "network": {"width": 4, "depth": 3}, "log_every": 1},
    # Enough for model and control to see different things.
    "finetune": {
        "steps": 40,
        "batch": 4,
        "network": {"width": 4, "depth": 3},
        "log_every": 1,
        "validate_every": 20,
        "optimiser": {"lr": 0.01},
    },
    "pretraining": True,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run beside its scans."""
    home = tmp_path_factory.mktemp("verify")
    raw_folder(home / "raw", [f"s{number}" for number in range(1, 8)], unlabelled=["s7"])
    train.run(train.train_settings({"data": home / "raw", "out": home / "run", **SMALL}))
    return home


@pytest.fixture
def run(made, tmp_path):
    """A copy of it, file by file, that a test may change."""
    shutil.copytree(made, tmp_path / "home")
    return tmp_path / "home" / "run"


def found(run, **more):
    """Part → verdict and detail."""
    settings = verify.VerifySettings.parse({"run": run, "device": "cpu", "scans": 1, **more})
    return {one.part: (one.verdict, one.detail) for one in verify.run(settings).findings}


def differing(findings):
    return {part for part, (verdict, _) in findings.items() if verdict == "differs"}


def reseal(folder, **settings):
    """A manifest that is right again after somebody changed files or settings."""
    values = json.loads((folder / MANIFEST).read_text())
    values["files"] = {name: file_hash(folder / name) for name in values["files"]}
    values["content_hash"] = content_hash_of(values["kind"], values["files"])
    values["settings"] |= settings
    write_sealed(folder / MANIFEST, values)
    return values["content_hash"]


def rename_parent(run, old, new):
    """Every record that names an artifact by its hash, as a careful forger would write it."""
    for path in [*run.glob(f"*/{MANIFEST}"), run / "run.json"]:
        values = json.loads(path.read_text().replace(old, new))
        write_sealed(path, values)


def test_an_untouched_run_holds(made):
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["verify", str(made / "run"), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "This run is what it claims to be" in " ".join(result.stdout.split())
    findings = found(made / "run")
    assert {verdict for verdict, _ in findings.values()} == {"held"}
    steps = {"encoder": 3, "segmenter": 11, "segmenter-control": 11}
    for name, count in steps.items():
        assert findings[f"{name}: first steps"] == ("held", f"{count} steps from the seed: identical")
    assert "identical" in findings["scores: repeated"][1]
    assert "identical" in findings["segmenter: validation"][1]
    assert findings["prepared: remade"] == ("held", "1 of 7 scans prepared again: identical")


def test_nothing_is_written_to_the_run(made):
    before = {path: path.stat().st_mtime_ns for path in (made / "run").rglob("*")}
    found(made / "run", steps=1, scores=False)
    assert {path: path.stat().st_mtime_ns for path in (made / "run").rglob("*")} == before


def test_a_flipped_bit_in_any_file_is_named(run):
    files = [path for path in run.rglob("*") if path.is_file() and path.parent != run]
    kinds = {path.suffix for path in files}
    assert kinds == {".json", ".jsonl", ".npy", ".parquet", ".csv", ".safetensors", ".html"}
    unsealed = {"pose.json", "sources.json", "data_folder.json"}
    for path in [*files, run / "run.json"]:
        content = path.read_bytes()
        place = len(content) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        told = {one.part: one for one in sealed_parts(run).findings if one.verdict == "differs"}
        part = "run.json" if path.parent == run else f"{path.parent.name}: files"
        if path.name in unsealed:
            assert not told, path
        else:
            assert part in told, path
            assert path.name in told[part].detail or path.name in part, (path, told[part])
        path.write_bytes(content)
    assert not [one for one in sealed_parts(run).findings if one.verdict == "differs"]


def test_files_that_are_gone_and_cut_short(run):
    (run / "segmenter" / "segmenter.json").unlink()
    images = run / "prepared" / "images.npy"
    images.write_bytes(images.read_bytes()[:-1])
    findings = found(run)
    assert findings["segmenter: files"] == ("differs", "segmenter.json is missing")
    assert findings["prepared: files"] == ("differs", "images.npy has changed")
    # What stands on them cannot be repeated, and that is said.
    assert findings["encoder: repeated"][0] == "not checked"
    assert "whose files differ" in findings["encoder: made from"][1]


def test_an_edited_score(run):
    scores = run / "scores"
    table = pd.read_parquet(scores / "per_case.parquet")
    table.loc[0, "dice"] = 0.9
    table.to_parquet(scores / "per_case.parquet", index=False)
    reseal(scores)
    findings = found(run, steps=0)
    assert findings["scores: files"][0] == "held"
    assert findings["scores: sums"] == ("differs", "per_case.csv is not the table per_case.parquet")
    (scores / "per_case.csv").write_text(table.to_csv(index=False))
    reseal(scores)
    assert found(run, steps=0)["scores: sums"][0] == "differs"
    summary = json.loads((scores / "summary.json").read_text())
    names = {int(index): name for index, name in summary["classes"].items()}
    (scores / "summary.json").write_text(json.dumps({**summary, **summarise(table, names)}))
    reseal(scores)
    findings = found(run, steps=0)
    assert findings["scores: sums"][0] == "held"
    verdict, detail = findings["scores: repeated"]
    assert verdict == "differs"
    assert f"dice of {table.loc[0, 'case']}" in detail


def test_scores_without_label_files(run):
    """What is left to tell where only predictions can be made again."""
    shutil.rmtree(run.parent / "raw")
    findings = found(run, steps=0)
    assert not differing(findings)
    assert findings["prepared: remade"] == ("not checked", "no scan is where the store has it")
    assert findings["prepared: scans"][0] == "not checked"
    assert "predicted volumes: identical; Dice on the prepared grid up to 0." in findings["scores: repeated"][1]
    table = pd.read_parquet(run / "scores" / "per_case.parquet")
    for column, value in (
        ("predicted_ml", table.loc[0, "predicted_ml"] * 1.5 + 1),
        ("dice", float(table.loc[0, "dice"] < 0.5)),
    ):
        changed = table.copy()
        changed.loc[0, column] = value
        changed.to_parquet(run / "scores" / "per_case.parquet", index=False)
        reseal(run / "scores")
        assert found(run, steps=0)["scores: repeated"][0] == "differs", column


def test_weights_of_another_network(run):
    """Model and control change places, under seals that are right."""
    one, two = (run / name / "segmenter.safetensors" for name in ("segmenter", "segmenter-control"))
    weights = one.read_bytes(), two.read_bytes()
    one.write_bytes(weights[1])
    assert "segmenter: files" in differing(found(run, steps=0, scores=False))
    two.write_bytes(weights[0])
    for name in ("segmenter", "segmenter-control"):
        old = json.loads((run / name / MANIFEST).read_text())["content_hash"]
        new = reseal(run / name)
        told = differing(found(run, steps=0, scores=False))
        assert {"scores: made from", "run.json"} <= told
        rename_parent(run, old, new)
    # Small networks may be nearly as good as each other.
    findings = found(run, steps=0, tolerance=1e-4)
    assert "scores: repeated" in differing(findings)
    assert "segmenter: validation" in differing(findings)


def test_a_whole_artifact_of_another_run(run, tmp_path):
    other = tmp_path / "other"
    raw_folder(other / "raw", [f"t{number}" for number in range(1, 8)])
    small = {**SMALL, "pretraining": False, "pretrain": {}}
    train.run(train.train_settings({"data": other / "raw", "out": other / "run", "seed": 1, **small}))
    shutil.rmtree(run / "segmenter")
    shutil.copytree(other / "run" / "segmenter", run / "segmenter")
    findings = found(run, steps=0, scores=False)
    assert {"segmenter: made from", "scores: made from", "run.json"} <= differing(findings)


def test_an_edited_setting(run):
    manifest = json.loads((run / "segmenter" / MANIFEST).read_text())
    optimiser = {**manifest["settings"]["optimiser"], "lr": manifest["settings"]["optimiser"]["lr"] * 3}
    # In the manifest alone.
    reseal(run / "segmenter", optimiser=optimiser)
    assert {"run.json", "segmenter: settings"} <= differing(found(run, scores=False))
    # Wherever it stands.
    reseal(run / "segmenter", identity={**manifest["settings"]["identity"], "optimiser": optimiser})
    record = read_run(run)
    record["settings"]["finetune"]["optimiser"] = optimiser
    write_run(run, record)
    findings = found(run, scores=False)
    assert "run.json" not in differing(findings)
    assert findings["segmenter: first steps"][0] == "differs"
    assert "lr of step" in findings["segmenter: first steps"][1]


def test_an_edited_seed(run):
    for name in ("encoder", "segmenter"):
        manifest = json.loads((run / name / MANIFEST).read_text())
        reseal(run / name, seed=7, identity={**manifest["settings"]["identity"], "seed": 7})
    findings = found(run, scores=False)
    assert {"encoder: first steps", "segmenter: first steps"} <= differing(findings)


def test_what_nobody_can_tell(run):
    """Times and versions are told by the seal alone, which whoever edits them can make anew."""
    values = json.loads((run / "segmenter" / MANIFEST).read_text())
    write_sealed(run / "segmenter" / MANIFEST, {**values, "wall_seconds": 1e6, "created": "1999-01-01"})
    assert not differing(found(run))


def test_a_run_that_moved_and_a_shared_copy(made, tmp_path):
    shutil.copytree(made, tmp_path / "moved")
    assert not differing(found(tmp_path / "moved" / "run", steps=1))
    copy = share.run(share.ShareSettings.parse({"run": tmp_path / "moved" / "run", "out": tmp_path / "copy"}))
    result = CliRunner().invoke(app, ["verify", str(copy), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    findings = found(copy)
    steps = {"encoder": 3, "segmenter": 11, "segmenter-control": 11}
    for name, count in steps.items():
        assert findings[f"{name}: first steps"] == ("held", f"{count} steps from the seed: identical")
    assert "predicted volumes: identical" in findings["scores: repeated"][1]
    assert findings["prepared: scans"][0] == "not checked"


def test_a_difference_has_an_exit_code(run):
    (run / "scores" / "per_case.csv").write_text("")
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["verify", str(run), "steps=0", "scores=false"])
    assert result.exit_code == 3
    assert "per_case.csv has changed" in " ".join(result.stdout.split())
    assert "NOT what it claims to be: 1 part differs" in " ".join(result.stdout.split())


def test_what_is_no_run(tmp_path):
    with pytest.raises(ArtifactError, match="holds no finished artifact"):
        found(tmp_path)
    with pytest.raises(ArtifactError, match="does not exist"):
        found(tmp_path / "gone")


def test_agreement():
    assert agreement({"a": (1.0, 1.0), "b": (None, float("nan")), "c": (True, 1)}).largest == 0
    near = agreement({"a": (1.0, 1.0), "b": (2.0, 2.02)})
    assert near.where == "b"
    assert near.largest == pytest.approx(0.02 / 2.02)
    assert near.finding("p", "w", 0.02).verdict == "held"
    assert near.finding("p", "w", 0.009).verdict == "differs"
    assert agreement({"a": (1.0, None)}).finding("p", "w", 0.02).verdict == "differs"
    # Small numbers are not held to digits that they do not have.
    assert agreement({"a": (0.0, 1e-6)}).largest == pytest.approx(1e-3)
