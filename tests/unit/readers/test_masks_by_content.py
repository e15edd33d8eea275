"""Masks that no name tells."""

import unicodedata

import numpy as np
import pytest

from fewlabel.core.errors import DataError
from fewlabel.readers.base import choose_reader, read_catalog
from fewlabel.readers.catalog_as_table import write_table
from kit.pictures import write_picture
from kit.scans import blob, noise, write_scan

SHAPE = (3, 12, 10)


@pytest.mark.parametrize(
    ("image", "mask", "kind"),
    [
        ("{}/Foto", "{}/Läsion", "Läsion"),
        ("{0}/{0}_A", "{0}/{0}_B", "B"),
        ("Daten/{}", "Leber/{}", "Leber"),
        ("{}_Foto", "{}_Leber", "Leber"),
        ("{}", "{}_Leber", "Leber"),
        ("pat_{}", "pat_{}_Leber", "Leber"),
    ],
)
@pytest.mark.parametrize("labelled", [2, 5])
def test_masks_of_unusual_names_in_layouts_as_people_have_them(tmp_path, image, mask, kind, labelled):
    names = [f"p{number}x" for number in range(5)]
    for seed, name in enumerate(names):
        write_scan(tmp_path / f"{image.format(name)}.nii.gz", noise(SHAPE, seed))
    for name in names[:labelled]:
        write_scan(tmp_path / f"{mask.format(name)}.nii.gz", blob(SHAPE))
    choice, catalog = read_catalog(tmp_path)
    assert choice.name == "folders"
    assert f"{labelled} of 5 images have a mask by content ({kind})" in choice.match.reasons
    files = {name: tmp_path / f"{mask.format(name)}.nii.gz" for name in names[:labelled]}
    assert [case.label for case in catalog.cases] == [files.get(name) for name in names]
    assert [case.images[0] for case in catalog.cases] == [tmp_path / f"{image.format(name)}.nii.gz" for name in names]
    assert len(catalog.subjects) == 5
    assert any(f"{kind} hold whole numbers of few values" in note for note in catalog.notes)
    table = write_table(tmp_path).text.splitlines()
    assert sum(f"{kind}" in line.split(",")[1] for line in table[1:]) == labelled


def test_channels_and_pictures(tmp_path):
    for name in ("p1", "p2", "p3"):
        for seed, channel in enumerate(("t1", "t2")):
            write_scan(tmp_path / f"a/{name}/{channel}.nii.gz", noise(SHAPE, seed))
        write_scan(tmp_path / f"a/{name}/Tumor.nii.gz", blob(SHAPE))
        write_picture(tmp_path / f"b/{name}/Foto.png", noise((1, 32, 40))[0].astype(np.uint8))
        write_picture(tmp_path / f"b/{name}/Herz.png", blob((3, 32, 40))[1])
    catalog = read_catalog(tmp_path / "a")[1]
    assert catalog.channels == ("t1", "t2")
    assert {case.label.name for case in catalog.cases} == {"Tumor.nii.gz"}
    assert {case.label.name for case in read_catalog(tmp_path / "b")[1].cases} == {"Herz.png"}


@pytest.mark.parametrize("second", [noise(SHAPE, 1), noise((4, 12, 10), 1), blob((4, 12, 10))])
def test_what_is_no_mask_on_the_grid_of_an_image_is_none(tmp_path, second):
    for name in ("p1", "p2", "p3"):
        write_scan(tmp_path / f"{name}/A.nii.gz", noise(SHAPE))
        write_scan(tmp_path / f"{name}/B.nii.gz", second)
    with pytest.raises(DataError, match="Unknown layout: 6 NIfTI files, none of them a mask by name"):
        choose_reader(tmp_path)


def test_words_of_other_languages_and_both_spellings_of_an_accent(tmp_path):
    for name in ("p1", "p2"):
        write_scan(tmp_path / unicodedata.normalize("NFD", f"Müller {name} Bild.nii.gz"), noise(SHAPE))
        write_scan(tmp_path / unicodedata.normalize("NFC", f"Müller {name} Máscara.nii.gz"), blob(SHAPE))
    choice, catalog = read_catalog(tmp_path)
    assert "2 of 2 images have a mask by name" in choice.match.reasons
    assert all(case.label is not None for case in catalog.cases)
