"""``check`` and ``prepare`` on persons, equal scans and metadata."""

import json
import shutil

import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.store import PreparedStore
from fewlabel.stages.prepare import PrepareSettings, run
from kit.scans import blob, noise, write_scan
from kit.tiny import checked

SHAPE = (4, 24, 20)


@pytest.fixture
def table(tmp_path):
    """Six scans with a site, an age and the scanner of the site."""
    lines = ["image,label,patient,site,scanner,age"]
    for number in range(6):
        write_scan(tmp_path / f"{number}.nii.gz", noise(SHAPE, number) + 80 * blob(SHAPE), (1.0, 1.0, 5.0))
        write_scan(tmp_path / f"{number}_m.nii.gz", blob(SHAPE), (1.0, 1.0, 5.0))
        lines.append(f"{number}.nii.gz,{number}_m.nii.gz,P-{number},s{number % 2},m{number % 2},{40.5 + number}")
    path = tmp_path / "scans.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def prepared(table, **values):
    return PreparedStore(run(PrepareSettings.parse({"data": table, "out": table.parent / "p", **values})))


def test_check_proposes_meta_labels(table):
    rows = dict(checked(table).rows)
    assert rows["meta label site"].startswith("2 classes, missing 0%; in common with scanner 1.00 bits (1.00)")
    assert rows["meta label scanner"].endswith("not advised: equal to the site, site")
    assert rows["meta label age"].startswith("with prepare.meta_bins=4: 4 classes, missing 0%, parted at ")
    assert rows["meta labels to use"] == (
        "position, patient, site: 'pretrain.method.labels=[position,patient,site]'; age as well with "
        "prepare.meta_bins=4"
    )
    rows = dict(checked(table, meta_bins=2).rows)
    assert rows["meta label age"].startswith("2 classes, missing 0%")
    assert "prepare.meta_bins" not in rows["meta labels to use"]


def test_columns_of_numbers_become_meta_labels_on_demand_alone(table):
    store = prepared(table, spacing=[1, 1], size=[16, 16])
    assert "age" not in store.meta_labels
    key = json.loads((store.folder / "sources.json").read_text())["key"]
    store = prepared(table, spacing=[1, 1], size=[16, 16], meta_bins=2)
    assert store.meta_labels["age"] == 2
    record = next(column for column in store.plan["columns"] if column["name"] == "age")
    (edge,) = record["edges"]
    assert record["values"] == [f"below {edge:g}", f"{edge:g} or more"]
    ages = {f"P-{number}": 40.5 + number for number in range(6)}
    outside = [age for subject, age in ages.items() if subject not in store.split["parts"]["test"]]
    assert sum(age >= edge for age in outside) in {len(outside) // 2, (len(outside) + 1) // 2}
    by_slice = store.slices.groupby("subject")["meta_age"].first()
    assert dict(by_slice.items()) == {s: int(age >= edge) for s, age in ages.items()}
    assert json.loads((store.folder / "sources.json").read_text())["key"] != key


def test_the_key_of_a_store_does_not_know_settings_at_their_defaults(table):
    from fewlabel.stages.prepare import _key_settings

    plain = PrepareSettings.parse({"data": table, "out": "p"})
    assert not {"meta_bins", "subjects", "same_scans"} & set(_key_settings(plain))
    asked = PrepareSettings.parse({"data": table, "out": "p", "subject_names": "as_written"})
    assert _key_settings(asked)["subject_names"] == "as_written"


def test_one_person_under_two_names_is_said_and_kept_together(table):
    table.write_text(table.read_text().replace("P-1,", "p0,"))
    report = checked(table)
    assert len(report.catalog.subjects) == 5
    assert any(topic == "note" and "P-0, p0 as P-0" in text for topic, text in report.rows)
    assert len(checked(table, subject_names="as_written").catalog.subjects) == 6
    store = prepared(table, spacing=[1, 1], size=[16, 16])
    assert [case.subject for case in store.cases][:2] == ["P-0", "P-0"]
    assert any("P-0, p0 as P-0" in note for note in json.loads((store.folder / "qc.json").read_text())["notes"])


def test_a_scan_under_two_subjects_is_refused_and_can_be_accepted(table):
    shutil.copy(table.parent / "0.nii.gz", table.parent / "3.nii.gz")
    (fault,) = checked(table).faults
    assert "(subject P-0) and" in fault.problem
    assert "(subject P-3) hold the same voxels" in fault.problem
    assert "prepare.same_scans=accept" in fault.remedy
    with pytest.raises(DataError, match="hold the same voxels"):
        prepared(table)
    assert checked(table, same_scans="accept").faults == ()
    store = prepared(table, spacing=[1, 1], size=[16, 16], same_scans="accept")
    notes = json.loads((store.folder / "qc.json").read_text())["notes"]
    assert "equal voxels under different subjects, left as they are: 0 of P-0 and 3 of P-3" in notes
    table.write_text(table.read_text().replace("P-3,", "P-0,"))
    report = checked(table)
    assert report.faults == ()
    assert ("note", "equal voxels twice: 0 and 3") in report.rows
