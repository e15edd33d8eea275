"""Pictures: turned by EXIF, of few or many bits, with a table of colours, transparency, and lossy masks."""

import struct

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.core.settings.value_syntax import nest
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.colours_and_segments import with_file_facts
from fewlabel.data.io.composite_paths import Coloured
from fewlabel.data.io.mask_colours import parse_colours
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.io.picture_header import TIFF, read_picture
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.data.scan_inspection import inspect_case

CLASSES = np.random.default_rng(3).integers(0, 4, (12, 10)).astype(np.uint8)
#: How viewers show an array that is stored with each number of the tag, as Pillow does it.
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def saved(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def turned(path, array, number):
    exif = Image.Exif()
    exif[274] = number
    jpeg = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {}
    return saved(path, array, **jpeg, **({"tiffinfo": {274: number}} if path.suffix == ".tif" else {"exif": exif}))


def shown(array, number):
    image = Image.fromarray(array)
    return np.asarray(image if TURNS[number] is None else image.transpose(TURNS[number]))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("number", TURNS)
@pytest.mark.parametrize("colours", [False, True])
def test_exif_turns_image_and_mask_alike(tmp_path, suffix, number, colours):
    array = np.kron(CLASSES * np.uint8(60), np.ones((8, 8), np.uint8))
    array = np.stack([array, 255 - array, array // 2], -1) if colours else array
    path = turned(tmp_path / f"s.{suffix}", array, number)
    volume = read_volume(path)
    expected = shown(array, number)
    wanted = np.moveaxis(expected, -1, 0)[:, None] if colours else expected[None, None]
    assert np.abs(volume.array - wanted).max() <= (30 if suffix == "jpg" else 0)
    geometry = read_geometry(path)
    assert geometry.shape == volume.geometry.shape == volume.array.shape[1:]
    assert geometry.components == len(volume.array)
    assert any("EXIF" in note for note in geometry.notes) is (number != 1)
    if not colours and suffix != "jpg":
        np.testing.assert_array_equal(read_mask(path)[0], expected)
    write_mask(tmp_path / "m.png", np.ones(geometry.shape, np.uint8), path)
    assert read_geometry(tmp_path / "m.png").shape == geometry.shape


@pytest.mark.parametrize("number", [2, 3, 6])
def test_a_tiff_that_is_turned_is_refused_with_the_cause(tmp_path, number):
    path = turned(tmp_path / "s.tif", CLASSES, number)
    for read in (read_geometry, read_volume, read_mask):
        with pytest.raises(DataError, match=r"its orientation tag (mirrors it|turns it by \d+ degrees), and of TIFF"):
            read(path)
    assert read_volume(turned(tmp_path / "u.tif", CLASSES, 1)).array.shape == (1, 1, 12, 10)


def test_a_mask_on_the_stored_pixels_of_a_turned_image_is_named(tmp_path):
    scan = turned(tmp_path / "s.png", CLASSES * 60, 6)
    label = saved(tmp_path / "m.png", CLASSES)
    (fault,) = inspect_case(Case("a", "a", (scan,), label), 1).faults
    assert "EXIF" in fault.remedy
    upright = saved(tmp_path / "u.png", shown(CLASSES, 6))
    facts = inspect_case(Case("a", "a", (scan,), upright), 1)
    assert facts.faults == ()
    assert any("EXIF tag turns it by 90 degrees" in text for text in facts.odd)
    assert any("its label has no EXIF tag" in text for text in facts.odd)


def palette(path, colours):
    image = Image.new("P", CLASSES.shape[::-1])
    image.putdata(CLASSES.ravel().tolist())
    image.putpalette([int(value) for colour in colours for value in colour])
    image.save(path)
    return path


VIVID = np.array([[0, 0, 0], [200, 10, 20], [30, 180, 40], [50, 60, 250]], np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif"])
def test_indexed_pictures(tmp_path, suffix):
    path = palette(tmp_path / f"p.{suffix}", VIVID)
    np.testing.assert_array_equal(read_mask(path)[0], CLASSES)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[:, 0], VIVID[CLASSES].transpose(2, 0, 1))
    assert read_geometry(path).components == 3
    grey = palette(tmp_path / f"g.{suffix}", np.repeat(np.array([0, 90, 130, 255])[:, None], 3, 1))
    np.testing.assert_array_equal(read_mask(grey)[0], CLASSES if suffix == "png" else read_mask(grey)[0])
    assert read_geometry(grey).components == len(read_volume(grey).array) == 1


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_pictures_of_one_bit(tmp_path, suffix):
    Image.fromarray(CLASSES > 1).save(tmp_path / f"b.{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"b.{suffix}")[0], CLASSES > 1)
    np.testing.assert_array_equal(read_volume(tmp_path / f"b.{suffix}").array[0, 0], (CLASSES > 1) * 255)


@pytest.mark.parametrize("bits", [2, 4])
def test_pictures_of_few_bits_hold_class_indices(tmp_path, bits):
    import zlib

    def part(name, content):
        check = zlib.crc32(name + content)
        return len(content).to_bytes(4, "big") + name + content + check.to_bytes(4, "big")

    per = 8 // bits
    rows = b"".join(
        b"\0"
        + bytes(
            sum(int(value) << (8 - bits * (at + 1)) for at, value in enumerate(row[first : first + per]))
            for first in range(0, len(row), per)
        )
        for row in CLASSES
    )
    head = (10).to_bytes(4, "big") + (12).to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])
    content = part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    (tmp_path / "f.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    np.testing.assert_array_equal(read_mask(tmp_path / "f.png")[0], CLASSES)
    stretched = CLASSES.astype(np.float32) * (255 // (2**bits - 1))
    np.testing.assert_array_equal(read_volume(tmp_path / "f.png").array[0, 0], stretched)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    deep = CLASSES.astype(np.uint16) * 1000 + 3
    path = saved(tmp_path / f"d.{suffix}", deep)
    np.testing.assert_array_equal(read_volume(path).array[0, 0], deep)
    np.testing.assert_array_equal(read_mask(path)[0], deep)
    colours = np.stack([deep, deep // 2, deep + 7], -1)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / f"c.{suffix}"))
    np.testing.assert_array_equal(read_volume(tmp_path / f"c.{suffix}").array[:, 0], colours.transpose(2, 0, 1))


def test_transparency_is_no_channel(tmp_path):
    full = np.full_like(CLASSES, 255)
    path = saved(tmp_path / "la.png", np.stack([CLASSES, full], -1))
    np.testing.assert_array_equal(read_mask(path)[0], CLASSES)
    np.testing.assert_array_equal(read_volume(path).array[:, 0], CLASSES[None])
    for suffix in ("png", "tif"):
        path = saved(tmp_path / f"rgba.{suffix}", np.stack([CLASSES, full, CLASSES, full // 2], -1))
        np.testing.assert_array_equal(read_volume(path).array[:, 0], np.stack([CLASSES, full, CLASSES]))
        assert read_geometry(path).components == 3
        assert "its transparency is left out" in read_geometry(path).notes


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_mask_in_colours_is_named_with_the_setting_for_it(tmp_path, suffix, alpha):
    array = VIVID[CLASSES]
    if alpha:
        array = np.concatenate([array, np.full((*CLASSES.shape, 1), 255, np.uint8)], -1)
    path = saved(tmp_path / f"c.{suffix}", array)
    with pytest.raises(DataError, match=rf"c\.{suffix}: is a mask in colours") as caught:
        read_mask(path)
    text = str(caught.value)
    assert all(name in text for name in ("#000000", "#c80a14", "#1eb428", "#323cfa"))
    words = [word.rstrip(".") for word in text.split() if word.startswith("colours.")]
    colours = {name: int(value) for name, value in nest(words)["colours"].items()}
    assert colours["000000"] == 0
    mask = read_mask(Coloured(path, parse_colours(colours)).path)[0]
    names = [f"{r:02x}{g:02x}{b:02x}" for r, g, b in VIVID.tolist()]
    np.testing.assert_array_equal(mask, np.array([colours[name] for name in names])[CLASSES])


def test_a_mask_that_lies_in_its_transparency_is_named(tmp_path):
    path = saved(tmp_path / "t.png", np.stack([*[CLASSES * 0] * 3, CLASSES * 80], -1))
    with pytest.raises(DataError, match="its shapes lie in its transparency"):
        read_mask(path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [60, 75, 95])
def test_a_lossy_mask_of_black_and_white_is_read_by_the_nearer(tmp_path, channels, quality):
    y, x = np.mgrid[:100, :120]
    disc = (((y - 40) ** 2 + (x - 60) ** 2 < 900) * 255).astype(np.uint8)
    path = saved(tmp_path / "m.jpg", disc if channels == 1 else np.stack([disc] * 3, -1), quality=quality)
    assert len(np.unique(read_volume(path).array)) > 10
    mask = read_mask(path)[0]
    assert np.unique(mask).tolist() == [0, 255]
    assert (mask != disc).sum() < 20


def test_lossy_masks_are_named_and_may_be_mapped(tmp_path):
    classes = np.kron(CLASSES > 1, np.ones((5, 5)))
    blurred = np.where(classes, 180, 60).astype(np.uint8)
    path = saved(tmp_path / "m.jpg", blurred, quality=70)
    with pytest.raises(DataError, match=r"m\.jpg: is a mask in a lossy format such as JPEG, which blurs .* values"):
        read_mask(path)
    near = parse_colours({"#000000": 0, "#ffffff": 1})
    np.testing.assert_array_equal(read_mask(Coloured(path, near).path)[0], classes)
    rgb = saved(tmp_path / "c.jpg", np.stack([blurred] * 3, -1), quality=70)
    with pytest.raises(DataError, match=r"mask in colours"):
        read_mask(rgb)
    np.testing.assert_array_equal(read_mask(Coloured(rgb, near).path)[0], classes)
    flat = saved(tmp_path / "f.jpg", np.full((8, 8), 255, np.uint8))
    assert read_mask(flat).tolist()[0][0][0] == 255


def test_colours_in_settings():
    assert parse_colours({"#ff0010": 2, "1, 2,3": 5, "00FF00": 0}) == (
        ((255, 0, 16), 2),
        ((1, 2, 3), 5),
        ((0, 255, 0), 0),
    )
    with pytest.raises(SettingsError, match=r'"red" is no colour.*\n.*"1,2,300" is no colour'):
        parse_colours({"red": 1, "1,2,300": 2})


def test_dots_per_inch_are_no_voxel_size(tmp_path):
    for suffix in ("jpg", "png", "tif", "bmp"):
        assert read_geometry(saved(tmp_path / f"s.{suffix}", CLASSES, dpi=(72, 72))).spacing == (1, 1, 1)
    volume = sitk.GetImageFromArray(np.stack([CLASSES] * 3))
    volume.SetSpacing((0.5, 0.5, 1))
    sitk.WriteImage(volume, str(tmp_path / "v.tif"))
    assert read_geometry(tmp_path / "v.tif").spacing == pytest.approx((1, 0.5, 0.5))
    assert read_picture(tmp_path / "v.tif", TIFF).pages == 3


def catalog(tmp_path, images, labels=None):
    cases = tuple(
        Case(f"c{number}", f"c{number}", (path,), labels[number] if labels else None)
        for number, path in enumerate(images)
    )
    return Catalog("toy", tmp_path, "table", cases)


def test_pictures_in_colour_have_three_channels(tmp_path):
    images = [saved(tmp_path / f"{n}.png", VIVID[CLASSES]) for n in range(3)]
    read = with_file_facts(catalog(tmp_path, images), {})
    assert read.channels == ("red", "green", "blue")
    assert "in colour" in read.notes[0]
    assert inspect_case(read.cases[0], 3).faults == ()
    grey = [saved(tmp_path / f"g{n}.png", CLASSES) for n in range(3)]
    assert with_file_facts(catalog(tmp_path, [*grey, images[0]]), {}).channels == ("image",)


def test_colours_of_a_data_set(tmp_path):
    images = [saved(tmp_path / f"{n}.png", CLASSES) for n in range(2)]
    labels = [saved(tmp_path / "m0.png", VIVID[CLASSES]), tmp_path / "m1.nii.gz"]
    colours = {f"#{r:02x}{g:02x}{b:02x}": 10 * n for n, (r, g, b) in enumerate(VIVID.tolist())}
    read = with_file_facts(catalog(tmp_path, images, labels), colours)
    np.testing.assert_array_equal(read_mask(read.cases[0].label)[0], 10 * CLASSES.astype(int))
    assert read.cases[1].label == labels[1]


def test_an_animation_is_no_picture(tmp_path):
    frames = [Image.fromarray(CLASSES * 60), Image.fromarray(255 - CLASSES * 60)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="is an animation of 2 pictures"):
        read_volume(tmp_path / "a.gif")


def test_a_jpeg_named_png_is_read_by_its_content(tmp_path):
    Image.fromarray(CLASSES * 60).save(tmp_path / "s.png", "JPEG", quality=95)
    assert read_volume(tmp_path / "s.png").array.shape == (1, 1, 12, 10)


@pytest.mark.parametrize("back_to", [0, 1])
def test_pages_of_a_tiff_that_lead_back_are_named(tmp_path, back_to):
    """Whoever follows them never ends."""
    pages = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in range(3)]
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    content = bytearray(path.read_bytes())
    places = []
    at = 4
    while place := struct.unpack_from("<I", content, at)[0]:
        places.append(place)
        at = place + 2 + 12 * struct.unpack_from("<H", content, place)[0]
    assert len(places) == 3
    struct.pack_into("<I", content, at, places[back_to])
    path.write_bytes(content)
    with pytest.raises(DataError, match="its pages lead back to one of them"):
        read_geometry(path)


def test_pages_of_unequal_size_are_no_stack(tmp_path):
    """Read by the size of the first, the others would be cut, or written past its end."""
    pages = [Image.fromarray(np.full((rows, 5), 7, np.uint8)) for rows in (2, 12, 12)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="its 3 pages are not alike: 5 x 2 pixels of 8 bits, 5 x 12 pixels"):
        read_geometry(tmp_path / "a.tif")


@pytest.mark.parametrize("tag", [257, 262])
def test_a_tag_of_a_tiff_that_has_several_values_where_one_belongs_is_named(tmp_path, tag):
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((4, 5), 7, np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", content, 4)[0] + 2
    entry = next(at for at in range(first, len(content), 12) if struct.unpack_from("<H", content, at)[0] == tag)
    struct.pack_into("<I", content, entry + 4, 5)
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"its tag {tag} has 5 values where one belongs"):
        read_geometry(path)


def test_whatever_pillow_raises_is_a_damaged_file(tmp_path, monkeypatch):
    Image.fromarray(CLASSES * 60).convert("P").save(tmp_path / "s.png")

    def convert(self, mode):
        raise IndexError("index out of range")

    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(DataError, match="is incomplete or damaged: index out of range"):
        read_volume(tmp_path / "s.png")
