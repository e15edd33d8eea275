"""Pictures of many people that are numbered like slices are not stacked; slices are, whatever their folders' names."""

import numpy as np
import pytest

from fewlabel.readers.base import collect_catalog
from fewlabel.readers.unrelated_pictures import why_unrelated
from kit.pictures import classes, photo, write_picture

SIZE = (40, 48)


def body(seed, z):
    """Slice ``z`` of one person: two structures that drift and grow."""
    random = np.random.default_rng(seed)
    (top, left), (down, right) = random.uniform(12, 24, 2), random.uniform(-0.6, 0.6, 2)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = (y - top - down * z) ** 2 + (x - left - right * z) ** 2 < (6 + 0.5 * z) ** 2
    return (60 + 120 * inside + random.normal(0, 4, SIZE) + np.random.default_rng(z).normal(0, 4, SIZE)).clip(0, 255)


def save(root, name, image):
    write_picture(root / f"{name}.png", image.astype(np.uint8))
    write_picture(root / f"{name}_mask.png", np.ones(image.shape[:2], np.uint8))


def found(root):
    catalog = collect_catalog(root)[1]
    return len(catalog.cases), " ".join(catalog.notes)


@pytest.mark.parametrize("folder", ["meier", "p{}", "1{}"])
def test_slices_of_persons_are_volumes(tmp_path, folder):
    for person, letter in enumerate("abcd"):
        home = folder.format(person) if "{" in folder else folder + letter
        for z in range(8):
            save(tmp_path / home, str(z + 1), body(person, z))
    scans, notes = found(tmp_path)
    assert scans == 4
    assert "32 numbered pictures are slices of 4 volumes" in notes


@pytest.mark.parametrize("name", ["{}/{}", "{}/img_{}", "all/{}_{}"])
@pytest.mark.parametrize("groups", [("benign", "malignant", "normal"), ("class1", "class2")])
def test_pictures_of_a_class_are_no_volume(tmp_path, name, groups):
    for at, group in enumerate(groups):
        for number in range(1, 13):
            save(tmp_path, name.format(group, number), body(100 * at + number, 3))
    scans, notes = found(tmp_path)
    assert scans == 12 * len(groups)
    assert "numbered as slices are, but those that follow each other are no more alike than others" in notes
    assert "reader.stack=always" in notes
    catalog = collect_catalog(tmp_path, {"name": "folders", "stack": "always"})[1]
    assert len(catalog.cases) == len(groups)


@pytest.mark.parametrize("many", [2, 9])
def test_pictures_in_colour_are_no_volume_even_where_they_are_frames_of_a_film(tmp_path, many):
    for centre in ("CVC-300", "ETIS-Larib"):
        for number in range(1, many + 1):
            mask = np.roll(classes(), number, axis=1)
            write_picture(tmp_path / centre / f"images/{number}.png", photo(mask, 1))
            write_picture(tmp_path / centre / f"masks/{number}.png", mask)
    scans, notes = found(tmp_path)
    assert scans == 2 * many
    assert "but they are in colour" in notes


def test_grey_in_three_channels_is_grey(tmp_path):
    for person in range(3):
        for z in range(6):
            save(tmp_path / f"p{person}", str(z), np.repeat(body(person, z)[..., None], 3, axis=2))
    assert found(tmp_path)[0] == 3


def test_a_word_for_slices_settles_it(tmp_path):
    for person in range(3):
        for z in range(8):
            save(tmp_path / f"x{person}", f"slice_{z}", body(17 * person + 5 * z, 3))
    assert found(tmp_path)[0] == 3


def test_of_equal_or_unreadable_pictures_nothing_is_said(tmp_path):
    for z in range(8):
        save(tmp_path, str(z), np.zeros(SIZE))
    files = [tmp_path / f"{z}.png" for z in range(8)]
    assert why_unrelated([files]) == ""
    for path in files:
        path.write_bytes(b"no picture")
    assert why_unrelated([files]) == ""
