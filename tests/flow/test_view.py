"""``fewlabel view`` in a real browser: look, draw, save, learn, see the new mask."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from fewlabel.core.artifact.files import write_json
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.service.view.server import run as serve
from fewlabel.service.view.settings import ViewSettings
from fewlabel.stages import finetune
from kit.scans import TILTED, write_scan
from kit.segmenters import LABELS, SHAPE, SPACING, prepared_discs, raw_folder
from kit.tiny import finetune_settings

FAST = ("learn.steps=2", "learn.scans=5", "learn.take=always", "learn.device=cpu")
CHROMIUM = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader")


@contextmanager
def viewing(*words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and the link that it shows."""
    path = os.pathsep.join(filter(None, sys.path))
    with subprocess.Popen(
        [sys.executable, "-m", "fewlabel", "view", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Open "), process.communicate(timeout=60)
            yield process, line.split()[1]
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[int, str]:
    """Exit code, and what was said on stderr."""
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_scans_alone_are_served_until_ctrl_c(tmp_path: Path) -> None:
    write_scan(tmp_path / "scans" / "a.nii.gz", np.ones((2, 3, 4), np.float32))
    with viewing(tmp_path / "scans", "--masks", tmp_path / "masks", "classes=[core]") as (process, link):
        home, token = link.split("?token=")
        with urllib.request.urlopen(link, timeout=30) as answer:
            assert answer.headers["content-security-policy"].endswith(
                "script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' data:"
            )
        request = urllib.request.Request(f"{home}api/state", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            state = json.load(answer)
        assert [scan["id"] for scan in state["scans"]] == ["a"]
        assert state["saves"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{home}api/state", timeout=30)
        refused.value.close()
        assert refused.value.code == 401
        assert ended(process) == (0, "")


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        serve(ViewSettings.parse({"place": tmp_path / "nowhere"}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no scans"):
        serve(ViewSettings.parse({"place": tmp_path / "empty"}))
    with pytest.raises(SettingsError, match="port: must be at most 65535"):
        ViewSettings.parse({"place": tmp_path, "port": 70000})


def every_voxel_another(number: int) -> np.ndarray:
    """Grey values that tell where they are: 1000 and on, in no order."""
    order = np.random.default_rng(number).permutation(int(np.prod(SHAPE)))
    return (1000 + order.reshape(SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run on tilted scans whose axes are permuted; grey values of ``c`` are all different."""
    folder = tmp_path_factory.mktemp("viewed")
    raw_folder(folder / "raw", ("a", "b", "c", "d"), unlabelled=("c", "d"))
    where = {"spacing": SPACING, "origin": (5, -7, 11), "direction": TILTED}
    write_scan(folder / "raw" / "imagesTr" / "c_0000.nii.gz", every_voxel_another(0), **where)
    place = folder / "run"
    prepared_discs(folder, train=("a", "b"), test=(), made=True, out=place / "prepared")
    finetune.run(finetune_settings(place / "prepared", place / "segmenter", recalibrate="auto", steps=4))
    write_json(place / "run.json", {"kind": "run", "stages": {"finetune": {}}, "use": None})
    return place


class Page:
    """A page in Chromium, and what a person does there."""

    def __init__(self, width: int, height: int) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for word in (*CHROMIUM, "--enable-unsafe-swiftshader", f"--window-size={width},{height}"):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        # Rendering in software on a busy machine takes its time.
        self.driver.set_script_timeout(180)
        self.driver.set_page_load_timeout(180)
        if width < 500:
            # Windows are never so narrow; phones are.
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def __getitem__(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def until(self, true: Callable[[], Any], seconds: float = 240) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(lambda _: true())

    def script(self, code: str, *words: Any) -> Any:
        return self.driver.execute_script(code, *words)

    def click(self, selector: str) -> None:
        self[selector].click()

    def key(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def stroke(self, x: int, y: int, *moves: tuple[int, int]) -> None:
        """Press at a place from the middle of the picture, drag, and let go."""
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver).move_to_element_with_offset(self["#canvas"], x, y).click_and_hold()
        for move in moves:
            chain = chain.move_by_offset(*move)
        chain.release().perform()

    def wheel(self, steps: int) -> None:
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

        origin = ScrollOrigin.from_element(self["#canvas"])
        ActionChains(self.driver).scroll_from_origin(origin, 0, steps).perform()

    def open(self, scan: str) -> None:
        self.click(f"#list li:nth-child({'abcd'.index(scan) + 1}) button")
        self.until(lambda: self.script("return document.body.dataset.shown") == scan)

    @property
    def slice(self) -> int:
        return int(re.findall(r"\d+", self["#slice-label"].text)[0])

    @property
    def here(self) -> tuple[tuple[int, int, int], int]:
        """Voxel (x, y, z) under the crosshair by the axes of the file, and its grey value."""
        x, y, z, grey = map(int, re.findall(r"\d+", self["#status"].text))
        return (x, y, z), grey

    @property
    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]


@pytest.fixture
def browse() -> Iterator[Callable[[int, int], Page]]:
    """Opens a page of a size."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    pages: list[Page] = []

    def opened(width: int, height: int) -> Page:
        pages.append(Page(width, height))
        return pages[-1]

    yield opened
    for page in pages:
        page.driver.quit()


@pytest.mark.slow
def test_a_person_looks_draws_saves_and_has_the_network_learn(run: Path, browse: Callable[..., Page]) -> None:
    scan = run.parent / "raw" / "imagesTr" / "c_0000.nii.gz"
    before, source = hashlib.sha256(scan.read_bytes()).hexdigest(), nibabel.load(scan)
    with viewing(run, *FAST) as (process, link):
        page = browse(1280, 943)
        page.driver.get(link.replace("token=", "token=x"))
        assert "Open the link that the terminal shows" in page["body"].text
        # The browser itself notes that it was refused.
        assert all("401" in line for line in page.complaints)

        page.driver.get(link)
        page.until(lambda: page.script("return document.body.dataset.shown") == "a")
        assert "token" not in page.driver.current_url

        at = page.slice
        page.wheel(120)
        page.until(lambda: page.slice != at)
        at = page.slice
        page.key("\ue013")
        page.until(lambda: page.slice == at + 1)
        page.key("?")
        assert page["#help"].is_displayed()
        page.key("\ue00c")
        assert not page["#help"].is_displayed()
        page.key("v")
        assert page["[data-view=planes]"].get_attribute("aria-pressed") == "true"
        page.key("v", "v")

        # What is shown and hidden is seen: of the annotation, and by another window. The prediction is made meanwhile.
        page.until(page["#show-prediction"].is_enabled)
        bare = page["#canvas"].screenshot_as_png
        page.key("a")
        page.until(lambda: page["#canvas"].screenshot_as_png != bare)
        page.key("a")
        page.until(lambda: page["#canvas"].screenshot_as_png == bare)
        level = page["#level-value"].text
        page.script("const e = document.getElementById('level'); e.value = e.max; e.dispatchEvent(new Event('input'))")
        page.until(lambda: page["#canvas"].screenshot_as_png != bare)
        assert page["#level-value"].text != level
        page.click("#window-reset")
        assert page["#level-value"].text == level

        page.open("c")
        page.until(page["#show-prediction"].is_enabled)
        assert not page["#show-annotation"].is_enabled()
        page.script("document.getElementById('begin').value = 'nothing'")
        page.key("d")
        page.until(page["#draw-tools"].is_displayed)
        page.script("const e = document.getElementById('size'); e.value = 1; e.dispatchEvent(new Event('input'))")
        page.click("#classes button:nth-child(2)")
        page.stroke(-60, -90)
        first = page.until(lambda: page["#undo"].is_enabled() and page.here)
        page.key("\ue013")
        page.stroke(50, 70)
        second = page.until(lambda: page.here != first and page.here)
        page.stroke(-40, 60, (30, 0), (0, 20))
        page.key("z")
        page.until(page["#redo"].is_enabled)
        assert page["#only-drawn"].is_selected()
        page.click("#save")
        page.until(lambda: page["#saved"].text.startswith("Saved as c.nii.gz by "))
        page.until(page["#show-annotation"].is_enabled)

        mask = nibabel.load(run / "annotations" / "c.nii.gz")
        values = np.asarray(mask.dataobj)
        drawn = {tuple(place) for place in np.argwhere(values == LABELS["ring"]).tolist()}
        # Where the page says, and where the grey values say that it was.
        assert drawn == {first[0], second[0]}
        assert {int(source.get_fdata()[place]) for place in drawn} == {first[1], second[1]}
        assert np.array_equal(mask.affine, source.affine)
        slices = {place[2] for place in drawn}
        assert len(slices) == 2
        assert [z for z in range(6) if (values[..., z] != 255).any()] == sorted(slices)
        assert (values[..., sorted(slices)] == 0).sum() == 2 * 22 * 26 - 2
        assert hashlib.sha256(scan.read_bytes()).hexdigest() == before

        page.click("#learn")
        page.until(lambda: page["#learn-outcome"].text == "A round is at work …")
        page.until(lambda: page["#learn-outcome"].text.startswith("Round 1 is used from now on"), 900)
        page.until(page["#learn"].is_enabled)
        page.open("d")
        page.until(page["#show-prediction"].is_enabled)
        sent = page.script("return fetch('api/scans/3/prediction').then(a => a.bytes()).then(b => [...b])")
        shown = np.asarray(nibabel.Nifti1Image.from_bytes(bytes(sent)).dataobj)
        new = np.asarray(nibabel.load(run / "rounds" / "1" / "predictions" / "d.nii.gz").dataobj)
        assert np.array_equal(np.array([*LABELS.values()])[shown], new)

        # There is nothing new to learn from: that is said.
        page.click("#learn")
        page.until(lambda: "did not end well" in page["#learn-outcome"].text, 300)
        assert "holds no mask that is new" in page["#learn-lines"].text
        assert page.complaints == []
        assert ended(process)[0] == 0


@pytest.mark.slow
def test_the_page_fits_a_phone(run: Path, browse: Callable[..., Page]) -> None:
    (run / "suggestions.csv").write_text("case,disagreement\nc,0.25\nd,0.75\n")
    with viewing(run, *FAST) as (_, link):
        page = browse(390, 844)
        page.driver.get(link)
        page.until(lambda: page.script("return document.body.dataset.shown") == "a")
        for panel in ("scans", "view", "draw", "learn"):
            page.click(f"[data-tab={panel}]")
            shown = page.script(
                "const all = [...document.querySelectorAll('.panel')];"
                "return all.filter((each) => each.checkVisibility()).map((each) => each.dataset.panel)"
            )
            assert shown == [panel]
            wide, high = page.script("const d = document.documentElement; return [d.scrollWidth, d.scrollHeight]")
            assert (wide, high) == (390, 844)
        page.click("[data-tab=scans]")
        assert page["#list"].text.splitlines()[0] == "a"
        page.script(
            "const e = document.getElementById('sort'); e.value = 'disagreement'; e.dispatchEvent(new Event('change'))"
        )
        names = [line for line in page["#list"].text.splitlines() if len(line) == 1]
        assert names == ["d", "c", "a", "b"]
        page.click("[data-tab=draw]")
        page.click("#draw-begin")
        page.until(page["#draw-tools"].is_displayed)
        page.stroke(10, 10, (20, 10))
        page.until(page["#undo"].is_enabled)
        assert page.complaints == []


@pytest.mark.slow
def test_what_happens_while_the_server_works_is_not_lost(run: Path, browse: Callable[..., Page]) -> None:
    with viewing(run, *FAST) as (_, link):
        page = browse(1280, 943)
        page.driver.get(link)
        page.until(page["#show-prediction"].is_enabled)
        page.script("document.getElementById('begin').value = 'nothing'")
        page.click("#draw-begin")
        page.until(page["#draw-tools"].is_displayed)
        page.stroke(10, 10)
        page.until(page["#undo"].is_enabled)
        # The server takes its time over the mask.
        page.script(
            "const ask = window.fetch, wait = new Promise((done) => (window.goOn = done));"
            "window.fetch = async (...w) => { if (w[1]?.method === 'POST') await wait; return ask(...w) }"
        )
        page.click("#save")
        page.stroke(-60, -90)
        page.script("window.goOn()")
        page.until(lambda: page["#saved"].text.endswith("What you drew meanwhile is not saved yet."))
        first = (run / "annotations" / "a.nii.gz").read_bytes()
        page.click("#save")
        page.until(
            lambda: page["#saved"].text.startswith("Saved as a.nii.gz") and "not saved" not in page["#saved"].text
        )
        page.until(lambda: not page["#draw-tools"].is_displayed())
        assert (run / "annotations" / "a.nii.gz").read_bytes() != first

        # Of a scan that cannot be read nothing is shown, least of all the one before.
        page.until(page["#show-annotation"].is_enabled)
        page.script('window.fetch = async () => new Response(\'{"detail": "It is damaged."}\', { status: 422 })')
        page.click("#list li:nth-child(2) button")
        page.until(lambda: page["#status"].text == "It is damaged.")
        assert page["#scan-name"].text == "b"
        assert not page["#show-annotation"].is_enabled()
        seen = np.asarray(Image.open(io.BytesIO(page["#canvas"].screenshot_as_png)).convert("L"))
        assert seen.max() == 0
        page.click("#window-reset")
        assert page.complaints == []
