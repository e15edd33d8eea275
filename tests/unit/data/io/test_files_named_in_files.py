"""Headers and links that name files elsewhere are refused before anything of those is read."""

import h5py
import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.files_named_in_files import leading_outside
from fewlabel.data.io.volume_reading import read_geometry, read_volume
from fewlabel.stages.predict import PredictSettings
from fewlabel.stages.predict import run as predict
from kit.segmenters import disc_plan, make_segmenter
from kit.tiny import checked

VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = 5 4 3\n"
    "ElementType = MET_SHORT\nElementDataFile = {}\n"
)
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nendian: little\nencoding: raw\n{}\n\n"


@pytest.fixture
def scans(tmp_path):
    """A folder of scans beside a file that is nobody's business."""
    (tmp_path / "secret.raw").write_bytes(VOXELS.tobytes())
    (tmp_path / "scans" / "sub").mkdir(parents=True)
    (tmp_path / "scans" / "sub" / "v.raw").write_bytes(VOXELS.tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as content:
        content["x"] = VOXELS
    with h5py.File(tmp_path / "scans" / "sub" / "v.h5", "w") as content:
        content["x"] = VOXELS
        content["out"] = h5py.ExternalLink("../../secret.h5", "/x")
    return tmp_path / "scans"


def headers(name):
    """Every way in which a header names a file."""
    return {
        "plain.mhd": META.format(name),
        "mha.mha": META.format(name),
        "list.mhd": META.format(f"LIST\n{name}"),
        "plain.nhdr": NRRD.format(f"data file: {name}"),
        "word.nhdr": NRRD.format(f"datafile: {name}"),
        "case.nhdr": NRRD.format(f"Data File: {name}"),
        "list.nhdr": NRRD.format(f"data file: LIST\n{name}").replace("\n\n", "\n"),
        "nrrd.nrrd": NRRD.format(f"data file: {name}"),
    }


NAMED = list(headers("any"))


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("how", ["up", "absolute", "in and out"])
def test_headers_that_name_files_elsewhere(scans, name, how):
    secret = scans.parent / "secret.raw"
    outside = {"up": "../secret.raw", "absolute": str(secret), "in and out": "sub/../../secret.raw"}[how]
    path = scans / name
    path.write_text(headers(outside)[name])
    for read in (read_geometry, lambda path: read_volume([path])):
        with pytest.raises(
            DataError, match=r"names \.\./secret\.raw, which lies outside of its folder\. Put that file"
        ):
            read(path)


@pytest.mark.parametrize("name", [name for name in NAMED if not name.startswith("list")])
def test_files_below_are_theirs(scans, name):
    path = scans / name
    path.write_text(headers("sub/v.raw")[name])
    np.testing.assert_array_equal(read_volume([path]).array[0], VOXELS)


def test_nothing_elsewhere_is_even_opened(scans, monkeypatch):
    secret = scans.parent / "secret.raw"
    path = scans / "a.nhdr"
    path.write_text(NRRD.format("data file: ../secret.raw\nline skip: 3"))
    opened = []
    original = type(secret).open
    monkeypatch.setattr(
        type(secret), "open", lambda self, *words, **more: opened.append(self.name) or original(self, *words, **more)
    )
    with pytest.raises(DataError, match="outside of its folder"):
        read_geometry(path)
    assert "secret.raw" not in opened
    assert "a.nhdr" in opened


def ways(content):
    """Arrays of an HDF5 file whose voxels lie in another one; name → whether that is elsewhere."""
    content["direct"] = h5py.ExternalLink("../secret.h5", "/x")
    content["chain"] = h5py.ExternalLink("sub/v.h5", "/out")
    content["group"] = h5py.ExternalLink("../secret.h5", "/")
    content["through"] = h5py.SoftLink("/group/x")
    content["soft"] = h5py.SoftLink("direct")
    content.create_dataset("storage", (3, 4, 5), "i2", external=[("../secret.raw", 0, 120)])
    layout = h5py.VirtualLayout((3, 4, 5), "i2")
    layout[:] = h5py.VirtualSource("../secret.h5", "x", shape=(3, 4, 5))
    content.create_virtual_dataset("virtual", layout)
    layout = h5py.VirtualLayout((3, 4, 5), "i2")
    layout[:] = h5py.VirtualSource("sub/v.h5", "out", shape=(3, 4, 5))
    content.create_virtual_dataset("virtual chain", layout)


NAMES = ("direct", "chain", "group", "through", "soft", "storage", "virtual", "virtual chain")


@pytest.mark.parametrize("name", NAMES)
def test_arrays_that_lie_elsewhere(scans, name):
    from fewlabel.data.io.hdf5_and_npz_arrays import shapes_of

    with h5py.File(scans / "all.h5", "w") as content:
        ways(content)
    with h5py.File(scans / "all.h5") as every, h5py.File(scans / "one.h5", "w") as content:
        assert set(every) == set(NAMES)
        for other in {"through": ("through", "group"), "soft": ("soft", "direct")}.get(name, (name,)):
            link = every.get(other, getlink=True)
            if isinstance(link, h5py.HardLink):
                every.copy(other, content)
            else:
                content[other] = link
    with pytest.raises(DataError, match=r"names \.\./(\.\./)?secret\.(h5|raw), which lies outside of its folder"):
        shapes_of(scans / "one.h5")


def test_links_in_the_folder_are_followed(scans):
    from fewlabel.data.io.hdf5_and_npz_arrays import shapes_of

    with h5py.File(scans / "a.h5", "w") as content:
        content["image"] = h5py.ExternalLink("sub/v.h5", "/x")
        content["again"] = h5py.SoftLink("/image")
    assert shapes_of(scans / "a.h5") == {"image": (3, 4, 5), "again": (3, 4, 5)}
    with h5py.File(scans / "a.h5", "a") as content:
        content["round"] = h5py.SoftLink("/round")
    with pytest.raises(DataError, match='"round" is a link that leads to nothing'):
        shapes_of(scans / "a.h5")


def test_check_and_predict_name_each(scans):
    for number, kind in enumerate(("mhd", "nhdr")):
        text = META.format("../secret.raw") if kind == "mhd" else NRRD.format("data file: ../secret.raw")
        (scans / f"s{number}.{kind}").write_text(text)
    (scans / "t.csv").write_text("image\ns0.mhd\ns1.nhdr\n")
    faults = [str(fault) for fault in checked(scans / "t.csv").faults]
    assert sum("outside of its folder" in fault for fault in faults) == 2
    model = make_segmenter(scans.parent / "model", disc_plan())
    out = scans.parent / "out"
    with pytest.raises(DataError, match="outside of its folder"):
        predict(PredictSettings.parse({"model": model, "scans": scans / "s0.mhd", "out": out, "device": "cpu"}))
    assert not list(out.glob("*.mh*"))


def test_a_link_in_the_file_system_is_the_users(scans):
    (scans / "linked.raw").symlink_to(scans.parent / "secret.raw")
    assert leading_outside(scans / "a.mhd", [scans / "linked.raw"]) == ()
