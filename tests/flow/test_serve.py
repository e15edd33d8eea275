"""``serve``: every route of the protocol, as its clients call it, and what may not be done by it."""

from __future__ import annotations

import errno
import gzip
import json
import os
import time
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from fastapi.testclient import TestClient

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import SettingsError
from fewlabel.data.annotation_saving import said_to_be_empty
from fewlabel.data.preprocess import Plan, indices_of_values
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.service.monai_label.server import application, served_run
from fewlabel.service.monai_label.settings import ServeSettings
from kit.segmenters import LABELS, SHAPE, nested_discs
from kit.viewing import discs_run

TOKEN = "a-token-of-the-test"
HOME = "http://127.0.0.1:8000"


def serving(run: Path, base: str = f"{HOME}/{TOKEN}", **over: Any) -> TestClient:
    settings = ServeSettings.parse({"run": run, "device": "cpu", **over})
    temporary = run.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    served = served_run(settings, TOKEN, temporary)
    client = TestClient(application(settings, served, TOKEN), base_url=base)
    client.served = served
    return client


@pytest.fixture
def client(run: Path) -> Iterator[TestClient]:
    with serving(run) as made:
        yield made


def image_of(run: Path, scan: str) -> Path:
    return Path(next(case for case in PreparedStore(run / "prepared").cases if case.id == scan).images[0])


def drawn(run: Path, scan: str, array: np.ndarray, suffix: str = ".nii.gz") -> bytes:
    """A mask on the grid of a scan, as a viewer saves it."""
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.CopyInformation(sitk.ReadImage(str(image_of(run, scan))))
    path = run.parent / f"drawn{suffix}"
    sitk.WriteImage(image, str(path))
    return path.read_bytes()


def numbered(mask: np.ndarray) -> np.ndarray:
    """A mask in the numbers of the protocol."""
    return np.select([mask == LABELS["core"], mask == LABELS["ring"]], [1, 2]).astype(np.uint8)


def both_parts(response: Any) -> tuple[dict[str, Any], str, bytes]:
    """``params``, and name and bytes of the mask, of an answer of several parts."""
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    params, image = message_from_bytes(head + response.content).get_payload()
    return json.loads(params.get_payload()), str(image.get_filename()), image.get_payload(decode=True)


def read(content: bytes, folder: Path, name: str = "got.nii.gz") -> np.ndarray:
    (folder / name).write_bytes(content)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / name)))


def put_mask(client: TestClient, scan: str, content: bytes, name: str = "m.nii.gz", **params: Any) -> Any:
    files, data = {"label": (name, content)}, {"params": json.dumps(params)}
    return client.put("/datastore/label", params={"image": scan}, files=files, data=data)


def test_info_says_what_the_plug_ins_ask_for(client: TestClient) -> None:
    info = client.get("/info/").json()
    assert info["labels"] == ["core", "ring"]
    assert info["models"]["segmentation"]["labels"] == {"core": 1, "ring": 2}
    assert info["models"]["segmentation"]["type"] == "segmentation"
    assert info["models"]["segmentation"]["dimension"] == 3
    assert info["trainers"]["segmentation"]["config"] == {"budget": "4m", "take": ["better", "always"], "scans": 20}
    assert info["strategies"].keys() == {"suggest", "coverage", "disagreement", "random"}
    assert info["datastore"] == {"total": 5, "completed": 2, "label_tags": {"original": 2}}
    # Slicer refuses servers that say this, as those of its early days did.
    assert "config" not in info


def test_scans_and_masks_are_listed_and_sent(client: TestClient, run: Path, tmp_path: Path) -> None:
    listing = client.get("/datastore/", params={"output": "all"}).json()["objects"]
    assert listing.keys() == set("abcde")
    assert listing["a"]["labels"].keys() == {"original"}
    assert listing["c"]["labels"] == {}
    assert listing["a"]["image"]["info"] == {"name": "a.nii.gz", "path": str(image_of(run, "a"))}
    trained = client.get("/datastore/", params={"output": "train"}).json()
    assert [Path(row["label"]).name for row in trained] == ["a.nii.gz", "b.nii.gz"]
    sent = client.get("/datastore/image", params={"image": "a"})
    assert sent.content == image_of(run, "a").read_bytes()
    assert client.head("/datastore/image", params={"image": "a"}).status_code == 200
    assert client.head("/datastore/image", params={"image": "a", "check_sum": "SHA256:00"}).status_code == 404
    assert client.get("/datastore/image/info", params={"image": "a"}).json()["path"] == str(image_of(run, "a"))
    mask = client.get("/datastore/label", params={"label": "a", "tag": "original"})
    np.testing.assert_array_equal(read(mask.content, tmp_path), numbered(nested_discs(0)))
    assert client.get("/datastore/label", params={"label": "a", "tag": "final"}).status_code == 404


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_mask_of_the_network_lies_on_the_grid_of_its_scan(
    client: TestClient, run: Path, tmp_path: Path, suffix: str
) -> None:
    asked = (
        {} if suffix == ".nii.gz" else {"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": False}
    )
    data = {"params": json.dumps({**asked, "client_id": "me"})}
    response = client.post("/infer/segmentation", params={"image": "c"}, data=data)
    params, name, content = both_parts(response)
    assert name == f"c{suffix}"
    mask = read(content, tmp_path, f"got{suffix}")
    # What is there is named, in the order of the numbers, and nothing else: Slicer names segments by it.
    assert params["label_names"] == {n: k for n, k in (("core", 1), ("ring", 2)) if k in mask}
    got, scan = sitk.ReadImage(str(tmp_path / f"got{suffix}")), sitk.ReadImage(str(image_of(run, "c")))
    assert got.GetSize() == scan.GetSize()
    np.testing.assert_allclose(got.GetOrigin(), scan.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(got.GetDirection(), scan.GetDirection(), atol=1e-5)
    if suffix == ".nrrd":
        assert got.GetPixelID() == sitk.sitkUInt16
        assert b"encoding: raw" in content
    alone = client.post("/infer/segmentation", params={"image": "c", "output": "image"}, data=data)
    assert alone.content == content or suffix == ".nii.gz"
    np.testing.assert_array_equal(read(alone.content, tmp_path, f"alone{suffix}"), mask)
    said = client.post("/infer/segmentation", params={"image": "c", "output": "json"}, data=data)
    assert said.json() == params
    assert not list((run.parent / "temporary").iterdir())


def test_scans_that_are_sent_are_segmented_alike(client: TestClient, run: Path, tmp_path: Path) -> None:
    own = client.post("/infer/segmentation", params={"image": "d", "output": "image"}, data={"params": "{}"})
    scan = image_of(run, "d").read_bytes()
    as_file = client.post(
        "/infer/segmentation",
        params={"output": "image"},
        files={"file": ("/var/tmp/x.nii.gz", scan)},
        data={"params": "{}"},
    )
    np.testing.assert_array_equal(read(as_file.content, tmp_path), read(own.content, tmp_path, "own.nii.gz"))
    session = client.put("/session/", files=[("files", ("x.nii.gz", scan))]).json()["session_id"]
    asked = {"image": "what Slicer calls it", "session_id": session, "output": "image"}
    of_session = client.post("/infer/segmentation", params=asked, data={"params": "{}"})
    np.testing.assert_array_equal(read(of_session.content, tmp_path), read(own.content, tmp_path, "own.nii.gz"))
    assert client.get(f"/session/{session}").status_code == 200
    assert client.delete(f"/session/{session}").status_code == 200
    assert client.get(f"/session/{session}").status_code == 404
    assert client.post("/infer/segmentation", params=asked, data={"params": "{}"}).status_code == 404
    sent = client.put(
        "/datastore/", params={"image": "mine"}, files={"file": ("x.nii.gz", scan)}, data={"params": "{}"}
    )
    assert sent.json() == {"image": "mine"}
    assert client.get("/datastore/image", params={"image": "mine"}).content == scan
    of_upload = client.post("/infer/segmentation", params={"image": "mine", "output": "image"}, data={"params": "{}"})
    np.testing.assert_array_equal(read(of_upload.content, tmp_path), read(own.content, tmp_path, "own.nii.gz"))
    # Its mask is kept, but no round could learn from it: the annotations of the run stay such as learn takes.
    saved = put_mask(client, "mine", drawn(run, "d", numbered(nested_discs(1))))
    assert saved.json()["learnt_from"] is False
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(run / "uploads" / "annotations" / "mine.nii.gz"))), nested_discs(1)
    )
    assert not (run / "annotations").exists()
    assert client.put("/datastore/", params={"image": "a"}, files={"file": ("x.nii.gz", scan)}).status_code == 409


def test_a_saved_mask_holds_the_values_of_the_data_set(client: TestClient, run: Path, tmp_path: Path) -> None:
    truth = nested_discs(2)
    assert put_mask(client, "c", drawn(run, "c", numbered(truth))).json() == {
        "image": "c", "label": "c", "learnt_from": True,
    }  # fmt: skip
    kept = run / "annotations" / "c.nii.gz"
    np.testing.assert_array_equal(np.asarray(nib.load(kept).dataobj).T, truth)
    assert client.get("/info/").json()["datastore"]["label_tags"] == {"final": 1, "original": 2}
    back = client.get("/datastore/label", params={"label": "c", "tag": "final"})
    np.testing.assert_array_equal(read(back.content, tmp_path), numbered(truth))
    # Slicer numbers segments as they stand in its list, and says which is which.
    swapped = np.select([truth == LABELS["ring"], truth == LABELS["core"]], [1, 2])
    told = [{"name": "ring", "idx": 1}, {"name": "core", "idx": 2}]
    put_mask(client, "c", drawn(run, "c", swapped), label_info=told)
    np.testing.assert_array_equal(np.asarray(nib.load(kept).dataobj).T, truth)
    history = run / "annotations" / ".history"
    assert len(list(history.glob("*.nii.gz"))) == 1
    lines = [json.loads(line) for line in (history / "saved.jsonl").read_text().splitlines()]
    assert [line["case"] for line in lines] == ["c", "c"]
    assert (lines[0]["before"], (history / lines[1]["before"]).is_file()) == ("", True)
    # A part of it: 255 is what nobody looked at.
    part = numbered(truth)
    part[2:] = 255
    assert put_mask(client, "c", drawn(run, "c", part)).status_code == 200
    expected = np.where(part == 255, 255, truth)
    np.testing.assert_array_equal(np.asarray(nib.load(kept).dataobj).T, expected)
    # OHIF sends voxels without a header.
    for dtype in (np.uint8, np.uint16):
        assert put_mask(client, "c", numbered(truth).astype(dtype).tobytes(), "label.bin").status_code == 200
        np.testing.assert_array_equal(np.asarray(nib.load(kept).dataobj).T, truth)
    assert put_mask(client, "c", drawn(run, "c", numbered(truth), ".nrrd"), "s.seg.nrrd").status_code == 200


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("shape", "has shape (6, 26, 21)"),
        ("place", "origin"),
        ("class", "3 is no class of this run"),
        ("name", "2 (aorta) is no class of this run"),
        ("empty", "holds no annotation at all"),
        ("nothing", "c: is all background, as no other mask is. Draw it; if there is nothing on the scan, start serve"),
        ("bytes", "has 7 bytes, but the scan has 3432 voxels (22x26x6)"),
        ("junk", "the mask"),
        ("kind", "is of no format that is taken"),
    ],
)
def test_a_mask_that_cannot_be_learnt_from_is_refused(client: TestClient, run: Path, what: str, words: str) -> None:
    truth, name, params = numbered(nested_discs(2)), "m.nii.gz", {}
    content = drawn(run, "c", truth)
    if what == "shape":
        image = sitk.ReadImage(str(run.parent / "drawn.nii.gz"))[:-1]
        sitk.WriteImage(image, str(run.parent / "drawn.nii.gz"))
        content = (run.parent / "drawn.nii.gz").read_bytes()
    elif what == "place":
        image = sitk.ReadImage(str(run.parent / "drawn.nii.gz"))
        image.SetOrigin((90, 0, 0))
        sitk.WriteImage(image, str(run.parent / "drawn.nii.gz"))
        content = (run.parent / "drawn.nii.gz").read_bytes()
    elif what == "class":
        content = drawn(run, "c", np.where(truth == 2, 3, truth))
    elif what == "name":
        params = {"label_info": [{"name": "core", "idx": 1}, {"name": "aorta", "idx": 2}]}
    elif what == "empty":
        content = drawn(run, "c", np.full(SHAPE, 255))
    elif what == "nothing":
        content = drawn(run, "c", np.zeros(SHAPE))
    elif what == "bytes":
        content, name = b"\1" * 7, "label.bin"
    elif what == "junk":
        content = gzip.compress(b"no image")
    else:
        name = "m.exe"
    response = put_mask(client, "c", content, name, **params)
    assert response.status_code == 422
    assert words in response.json()["detail"]
    # Of files that are gone when somebody reads it, nothing is said.
    assert ".saving-" not in response.text
    assert str(run.parent / "temporary") not in response.text
    assert not list((run / "annotations").glob("*.nii.gz"))
    assert not list((run.parent / "temporary").iterdir())


def test_a_mask_without_any_structure_is_taken_where_that_is_said_to_be_right(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(run, empty_masks=True) as client:
        assert put_mask(client, "c", drawn(run, "c", np.zeros(SHAPE))).status_code == 200
        begun: list[Any] = []
        monkeypatch.setattr(client.served.learning, "begin", begun.append)
        assert client.post("/train/segmentation").status_code == 429
        assert begun == [{"budget": "4m", "empty_masks": True}]
    # That it is right is kept beside it, for who learns from the command line.
    assert {scan for scan, _ in said_to_be_empty(run / "annotations")} == {"c"}


def test_an_empty_mask_of_the_data_excuses_no_other_once_it_was_redrawn(tmp_path: Path) -> None:
    run = discs_run(tmp_path, empty=("a",))
    with serving(run) as client:
        nothing = drawn(run, "c", np.zeros(SHAPE))
        assert put_mask(client, "c", nothing).status_code == 200
        assert put_mask(client, "a", drawn(run, "a", numbered(nested_discs(0)))).status_code == 200
        refused = put_mask(client, "c", nothing)
    assert refused.status_code == 422
    assert "c: is all background, as no other mask is" in refused.json()["detail"]


def test_what_nobody_looked_at_is_no_class_even_where_255_is_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan((1, 1), (8, 8), label_values=(0, 255), label_names=("background", "core"))
    monkeypatch.setattr("fewlabel.service.monai_label.run_scans.Plan.load", lambda _: plan)
    with serving(run) as client:
        values = client.served.scans.to_values(np.array([0, 1, 255]))
        assert values.tolist() == [0, 255, 254]
        assert indices_of_values(values, client.served.scans.state().plan).tolist() == [0, 1, 255]


def test_a_refused_mask_leaves_the_earlier_one(client: TestClient, run: Path) -> None:
    put_mask(client, "c", drawn(run, "c", numbered(nested_discs(2))))
    assert put_mask(client, "c", drawn(run, "c", np.full(SHAPE, 255))).status_code == 422
    np.testing.assert_array_equal(np.asarray(nib.load(run / "annotations" / "c.nii.gz").dataobj).T, nested_discs(2))


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_and_what_was_there_stays(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, mask = image_of(run, "d").read_bytes(), drawn(run, "d", numbered(nested_discs(2)))
    with serving(run) as client:
        upload = {"params": {"image": "mine"}, "files": {"file": ("mine.nii.gz", scan)}}
        assert client.put("/datastore/image", **upload).status_code == 200
        assert put_mask(client, "mine", mask).status_code == 200
        before = {path: path.read_bytes() for path in (run / "uploads").rglob("*") if path.is_file()}
        assert len(before) == 2
        monkeypatch.setattr("fewlabel.service.monai_label.uploads.shutil.move", full)
        monkeypatch.setattr("fewlabel.data.io.mask_writing._write_nifti", full)
        for answer in (
            client.put("/datastore/image", **upload),
            put_mask(client, "mine", mask),
            put_mask(client, "c", drawn(run, "c", numbered(nested_discs(2)))),
        ):
            assert answer.status_code == 507
            assert os.strerror(errno.ENOSPC) in answer.json()["detail"]
        assert {path: path.read_bytes() for path in (run / "uploads").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["../../evil", "..", "a/b", "/etc/passwd", "a\\b", ".hidden", "", "x" * 300, "a\x00b"])
def test_names_lead_nowhere_else(client: TestClient, run: Path, name: str) -> None:
    before = set(run.parent.rglob("*"))
    scan = image_of(run, "d").read_bytes()
    sent = client.put("/datastore/", params={"image": name}, files={"file": (f"{name or '..'}.nii.gz", scan)})
    assert sent.status_code == 400
    assert put_mask(client, name, drawn(run, "d", numbered(nested_discs(1)))).status_code == 404
    assert client.get("/datastore/image", params={"image": name}).status_code == 404
    assert client.get("/datastore/label", params={"label": name}).status_code == 404
    (run.parent / "drawn.nii.gz").unlink()
    assert set(run.parent.rglob("*")) == before


def test_a_header_may_not_point_at_files_of_this_machine(client: TestClient, run: Path) -> None:
    secret = run.parent / "secret.raw"
    secret.write_bytes(bytes(22 * 26 * 6))
    head = (
        "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\nsizes: 22 26 6\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
        f"space origin: (0,0,0)\ndata file: {secret}\n\n"
    )
    response = client.post(
        "/infer/segmentation",
        files={"file": ("x.nrrd", head.encode())},
        data={"params": "{}"},
        params={"output": "image"},
    )
    assert response.status_code == 422
    assert "its voxels lie in another file" in response.json()["detail"]
    for name in ("x.mhd", "x.nhdr", "x.mha", "x.hdr", "x.png"):
        sent = client.put("/datastore/", params={"image": "mine"}, files={"file": (name, head.encode())})
        assert sent.status_code == 422


def test_the_next_sample_is_what_suggest_ranks_first(client: TestClient, run: Path) -> None:
    seen = []
    for _ in range(3):
        sample = client.post("/activelearning/suggest", json={"client_id": "me"}).json()
        assert sample["path"] == str(image_of(run, sample["id"]))
        # It stays the next one until somebody has annotated it.
        assert client.post("/activelearning/suggest").json() == sample
        seen.append(sample["id"])
        put_mask(client, sample["id"], drawn(run, sample["id"], numbered(nested_discs(2))))
    assert sorted(seen) == ["c", "d", "e"]
    assert client.post("/activelearning/suggest").json() == {}
    assert client.post("/activelearning/random").json() == {}
    assert client.post("/activelearning/first").status_code == 404
    assert not (run / "suggestions.csv").exists()


def test_a_scan_whose_file_is_gone_is_not_there_and_not_suggested(client: TestClient, run: Path) -> None:
    first = client.post("/activelearning/suggest").json()["id"]
    image_of(run, first).unlink()
    for ask in (client.get, client.head):
        assert ask("/datastore/image", params={"image": first}).status_code == 404
    assert f"The file of {first} is gone" in client.get("/datastore/image", params={"image": first}).json()["detail"]
    for strategy in ("suggest", "random"):
        assert client.post(f"/activelearning/{strategy}").json()["id"] in set("cde") - {first}
    for scan in "cde":
        image_of(run, scan).unlink(missing_ok=True)
    assert client.post("/activelearning/suggest").json() == {}


def test_a_scan_whose_id_begins_with_a_dot_is_segmented(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(**row: Any) -> PreparedCase:
        return PreparedCase(**{**row, "id": "..hidden" if row["id"] == "c" else row["id"]})

    monkeypatch.setattr("fewlabel.data.store.PreparedCase", renamed)
    with serving(run) as client:
        answer = client.post("/infer/segmentation", params={"image": "..hidden"}, data={"params": "{}"})
        assert answer.status_code == 200, answer.text
        assert put_mask(client, "..hidden", drawn(run, "..hidden", numbered(nested_discs(2)))).status_code == 200
        assert client.get("/datastore/label", params={"label": "..hidden"}).status_code == 200


def test_a_round_is_learnt_one_at_a_time_and_stopped(client: TestClient, run: Path) -> None:
    assert client.get("/train/").status_code == 404
    assert client.delete("/train/").json() is None
    put_mask(client, "c", drawn(run, "c", numbered(nested_discs(2))))
    wrong = client.post("/train/segmentation", json={"steps": 0})
    assert wrong.status_code == 400
    assert "steps" in wrong.json()["detail"]
    assert client.post("/train/heart").status_code == 422
    # Slicer sends empty text for what has no value, and words of its own.
    begun = client.post(
        "/train/segmentation", json={"steps": 100_000, "budget": "", "scans": 2, "client_id": "me"}
    ).json()
    assert begun["status"] == "RUNNING"
    assert begun["request"]["steps"] == 100_000
    assert client.post("/train/segmentation").status_code == 429
    assert client.get("/train/", params={"check_if_running": True}).json()["id"] == begun["id"]
    stopped = client.delete("/train/").json()
    assert (stopped["id"], stopped["status"]) == (begun["id"], "STOPPED")
    assert client.get("/train/", params={"check_if_running": True}).status_code == 404
    # Nothing of it is kept.
    assert not (run / "rounds" / "1").exists()

    before = client.get("/info/").json()
    every = client.post("/train/", json={"segmentation": {"steps": 2, "take": "always", "scans": 0}}).json()
    assert every["segmentation"]["result"]["status"] == "RUNNING"
    while client.get("/train/", params={"check_if_running": True}).status_code == 200:
        time.sleep(0.1)
    done = client.get("/train/").json()
    assert done["status"] == "DONE", client.get("/logs/").text
    assert done["result"] == str(run / "rounds" / "1")
    assert len(client.get("/train/", params={"all": True}).json()) == 2
    assert "Round 1 took" in client.get("/logs/", params={"lines": 50}).text
    after = client.get("/info/").json()
    assert after["models"] == before["models"]
    # What the network learnt from is annotated from now on, and is what predicts.
    round_one = Artifact.open(run / "rounds" / "1" / "segmenter", "segmenter")
    assert client.served.scans.state().segmenter == round_one.content_hash
    assert client.post("/infer/segmentation", params={"image": "c"}, data={"params": "{}"}).status_code == 200


def test_callers_need_the_token(run: Path) -> None:
    with serving(run, HOME) as client:
        assert client.get("/info/").status_code == 401
        assert client.get(f"/{TOKEN}x/info/").status_code == 401
        assert client.get(f"/{TOKEN}").status_code == 401
        assert client.get("/info/", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/info/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        # Slicer's login.
        assert client.get("/auth/").json() == {"enabled": True}
        assert client.get("/auth/token/valid").status_code == 401
        form = {"username": "me", "password": TOKEN, "grant_type": "password"}
        assert client.post("/auth/token", data={**form, "password": "wrong"}).status_code == 401
        given = client.post("/auth/token", data=form).json()
        headers = {"authorization": f"{given['token_type']} {given['access_token']}"}
        assert client.get("/auth/token/valid", headers=headers).status_code == 200
    with serving(run, HOME, token=False) as client:
        assert client.get("/auth/").json() == {"enabled": False}
        assert client.get("/info/").status_code == 200
        assert client.get("/info/", headers={"host": "evil.example"}).status_code == 400
        assert client.get("/info/", headers={"origin": "https://evil.example"}).status_code == 403
        assert client.get("/info/", headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_cors_is_closed_but_for_named_origins(run: Path) -> None:
    ohif = {"origin": "http://localhost:3000"}
    preflight = {**ohif, "access-control-request-method": "PUT"}
    with serving(run) as client:
        assert client.get("/info/", headers=ohif).status_code == 403
        answer = client.options("/datastore/label", headers=preflight)
        assert not any(name.startswith("access-control") for name in answer.headers)
    with serving(run, origins=["http://localhost:3000"]) as client:
        answer = client.get("/info/", headers={**ohif, "sec-fetch-site": "same-site"})
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert answer.json()["labels"] == ["core", "ring"]
        assert client.options("/datastore/label", headers=preflight).status_code == 200
        other = client.get("/info/", headers={"origin": "http://localhost:3001"})
        assert other.status_code == 403
        assert "access-control-allow-origin" not in other.headers
    with pytest.raises(SettingsError, match="an origin is like"):
        ServeSettings.parse({"run": run, "origins": ["*"]})


def test_large_bodies_and_odd_forms_are_refused(run: Path) -> None:
    with serving(run, largest=1) as client:
        assert put_mask(client, "c", bytes(2 * 2**20)).status_code == 413
        odd = client.post("/infer/segmentation", params={"image": "c"}, data={"params": "[1"})
        assert (odd.status_code, odd.json()["detail"]) == (400, "params is not JSON")
        odd = client.post("/infer/segmentation", params={"image": "c"}, data={"params": "[1]"})
        assert odd.status_code == 400
        assert client.post("/infer/segmentation", data={"params": "{}"}).status_code == 400
        for params in ({"result_extension": ".exe"}, {"result_dtype": "float128"}):
            odd = client.post("/infer/segmentation", params={"image": "c"}, data={"params": json.dumps(params)})
            assert odd.status_code == 400
        for settings in ({"budget": ["4m"]}, {"take": ["better", "always"]}, {"scans": {"at": 2}}):
            assert client.post("/train/segmentation", json=settings).status_code == 400
        near = client.get("/datastore/image", params={"image": "aa"})
        assert "Did you mean a?" in near.json()["detail"]


def test_the_page_about_the_routes_needs_no_network(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    described = client.get("/openapi.json").json()
    for path in ("/info/", "/datastore/", "/infer/{model}", "/activelearning/{strategy}", "/train/{model}"):
        assert path in described["paths"]
        assert path in page.text
    for word in ("label_info", "result_extension", "check_if_running"):
        assert word in page.text
    import base64
    import hashlib

    style = page.text.partition("<style>")[2].partition("</style>")[0]
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy


def sent_by_monailabel(fields: dict[str, str], files: dict[str, tuple[str, bytes]]) -> tuple[dict[str, str], bytes]:
    """Headers and body of a form as ``monailabel.client`` 0.8.5 and the Slicer module write it, byte for byte.

    Taken from what the client sent to a socket: a boundary of its own, no type for fields, whole paths as names.
    """
    limit = "----------lImIt_of_THE_fIle_eW_$"
    body = b""
    for key, value in fields.items():
        body += f'--{limit}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
    for key, (name, content) in files.items():
        head = f'--{limit}\r\nContent-Disposition: form-data; name="{key}"; filename="{name}"\r\n'
        body += f"{head}Content-Type: application/x-gzip\r\n\r\n".encode() + content + b"\r\n"
    body += f"--{limit}--\r\n\r\n".encode()
    return {"content-type": f"multipart/form-data; boundary={limit}", "content-length": str(len(body))}, body


def test_the_client_of_monailabel_is_understood(client: TestClient, run: Path, tmp_path: Path) -> None:
    """Its calls as recorded; ``test_serve_real_client`` makes them by the client itself."""
    # Query words are quoted with plus signs, JSON bodies come with their length alone beside the type.
    sample = client.post(
        "/activelearning/suggest", content=b'{"client_id": "user-xyz"}', headers={"content-type": "application/json"}
    )
    scan = sample.json()["id"]
    headers, body = sent_by_monailabel({"params": '{"flip": false, "client_id": "user-xyz"}'}, {})
    answer = client.post(f"/infer/segmentation?image={scan}", content=body, headers=headers)
    _, name, content = both_parts(answer)
    assert name == f"{scan}.nii.gz"
    assert read(content, tmp_path).shape == SHAPE
    told = {"label_info": [{"name": "core", "idx": 1}, {"name": "ring", "idx": 2}], "client_id": "user-xyz"}
    mask = drawn(run, scan, numbered(nested_discs(2)))
    headers, body = sent_by_monailabel(
        {"params": json.dumps(told)}, {"label": ("/var/tmp/slicer/tmpab12.nii.gz", mask)}
    )
    assert client.put(f"/datastore/label?image={scan}", content=body, headers=headers).status_code == 200
    assert (run / "annotations" / f"{scan}.nii.gz").is_file()
    whole = image_of(run, "d").read_bytes()
    headers, body = sent_by_monailabel(
        {"params": '{"client_id": null}'}, {"file": ("/var/tmp/slicer/tmpcd34.nii.gz", whole)}
    )
    assert client.put("/datastore/?image=MR+head", content=body, headers=headers).json() == {"image": "MR head"}
    assert client.post("/infer/segmentation?image=MR+head", content=body, headers=headers).status_code == 200
