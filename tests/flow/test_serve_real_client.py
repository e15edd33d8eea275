"""``serve`` asked by MONAI Label's own Python client, in an environment of its own: its pins are not ours."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from kit.segmenters import LABELS, nested_discs, trained_run

#: The last release; without its dependencies, of which the client needs these.
CLIENT = ("monailabel==0.8.5", "requests", "urllib3", "certifi", "idna", "charset-normalizer")
CALLS = """
    import json, sys, time
    from monailabel.client import MONAILabelClient
    address, mask, image = sys.argv[1:]
    client = MONAILabelClient(address)
    assert client.auth_enabled() and client.auth_valid_token()
    plain = MONAILabelClient(address.rsplit("/", 2)[0])
    plain.update_auth(plain.auth_token("me", address.rsplit("/", 2)[1]))
    assert plain.auth_valid_token() and plain.info() == client.info()
    said = {"info": client.info(), "datastore": client.datastore()}
    said["sample"] = client.next_sample("suggest", {})
    said["infer"] = client.infer("segmentation", said["sample"]["id"], {})
    said["sent"] = client.infer("segmentation", "", {}, file=image)
    session = client.create_session(image)["session_id"]
    assert client.get_session(session)
    said["session"] = client.infer("segmentation", "", {}, session_id=session)
    client.remove_session(session)
    said["upload"] = client.upload_image(image, "my scan")
    names = [{"name": "core", "idx": 1}, {"name": "ring", "idx": 2}]
    said["saved"] = client.save_label("c", mask, params={"label_info": names})
    said["label"] = client.download_label("c", "final")
    assert not client.train_status(True)
    said["begun"] = client.train_start("segmentation", {"steps": 100000})
    assert client.train_status(True)
    said["stopped"] = client.train_stop()
    client.train_start(None, {"segmentation": {"steps": 2, "scans": 0, "take": "always"}})
    while client.train_status(True):
        time.sleep(0.2)
    said["done"] = client.train_status()
    print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with the client."""
    home = tmp_path_factory.mktemp("client")
    venv.create(home, with_pip=True)
    made = str(home / ("Scripts" if os.name == "nt" else "bin") / "python")
    more = ["legacy-cgi"] if sys.version_info >= (3, 13) else []
    command = [made, "-m", "pip", "install", "-q", "--no-deps", *CLIENT, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the client cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return made


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a server on a tiny run."""
    run = trained_run(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "fewlabel", "serve", str(run), "--port", port, "--device", "cpu"]
    # Lines are folded at the width of a terminal.
    wide = {**os.environ, "COLUMNS": "200"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=wide) as server:
        lines = []
        for line in server.stdout or ():
            lines.append(line)
            if found := re.search(r"Server of MONAI Label: (\S+)", line):
                break
        else:
            pytest.fail("".join(lines))
        try:
            yield found[1]
        finally:
            server.terminate()
            server.stdout.read()
            assert server.wait() == 0


@pytest.mark.slow
def test_the_client_of_monailabel_goes_all_the_way(python: str, address: str, tmp_path: Path) -> None:
    scan = tmp_path / "raw" / "imagesTr" / "c_0000.nii.gz"
    truth = nested_discs(2)
    numbers = np.select([truth == LABELS["core"], truth == LABELS["ring"]], [1, 2]).astype(np.uint8)
    mask = sitk.GetImageFromArray(numbers)
    mask.CopyInformation(sitk.ReadImage(str(scan)))
    sitk.WriteImage(mask, str(tmp_path / "mask.nii.gz"))
    command = [python, "-W", "ignore", "-c", textwrap.dedent(CALLS), address, str(tmp_path / "mask.nii.gz"), str(scan)]
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["info"]["labels"] == ["core", "ring"]
    assert said["datastore"]["objects"].keys() == set("abcde")
    assert said["sample"]["id"] in set("cde")
    for name in ("infer", "sent", "session"):
        file, params = said[name]
        assert sitk.ReadImage(file).GetSize() == mask.GetSize()
        assert params["label_names"].items() <= {"core": 1, "ring": 2}.items()
    assert said["upload"] == {"image": "my scan"}
    saved = sitk.ReadImage(str(tmp_path / "run" / "annotations" / "c.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(saved), truth)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(said["label"])), numbers)
    assert said["begun"]["status"] == "RUNNING"
    assert said["stopped"]["status"] == "STOPPED"
    assert said["done"]["status"] == "DONE"
    assert (tmp_path / "run" / "rounds" / "1" / "manifest.json").is_file()
