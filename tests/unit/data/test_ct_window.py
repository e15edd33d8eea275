"""CT: padding, recognition, and one window for all scans."""

import numpy as np
import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.data.catalog import Case
from fewlabel.data.ct_window import find_windows, looks_like_ct
from fewlabel.data.io.volume_reading import read_volume
from fewlabel.data.label_values import LabelMap
from fewlabel.data.preprocess import Plan, prepare_volume
from fewlabel.data.scan_inspection import inspect_case
from fewlabel.data.scanner_padding import padding_values
from kit.scans import write_scan

SHAPE = (4, 30, 40)
LABELS = LabelMap((0, 1), ("background", "organ"))


def ct(seed=0, padding=None, share=0.3):
    """Air, tissue and an organ of 50 to 150 HU; part of it padded."""
    rng = np.random.default_rng(seed)
    image = rng.normal(-1000, 8, SHAPE)
    image[:, 5:25, 5:35] = rng.normal(20, 15, (4, 20, 30))
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[1:3, 10:20, 10:20] = 1
    image[mask == 1] = rng.uniform(50, 150, int(mask.sum()))
    if padding is not None:
        image[:, :, : int(share * SHAPE[2])] = padding
        mask[:, :, : int(share * SHAPE[2])] = 0
    return np.clip(image, -3024, 3071).round().astype(np.float32), mask


def facts_of(folder, scans, channels=1):
    facts = []
    for number, (image, mask) in enumerate(scans):
        paths = tuple(write_scan(folder / f"i{number}_{c}.nii.gz", image + 0 * c, (1, 1, 5)) for c in range(channels))
        label = None if mask is None else write_scan(folder / f"m{number}.nii.gz", mask, (1, 1, 5))
        facts.append(inspect_case(Case(f"c{number}", f"s{number}", paths, label), channels))
    return facts


@pytest.mark.parametrize("value", [-3024, -2000, -2048, -1500])
def test_padding_of_ct(value):
    image, _ = ct(padding=value)
    assert padding_values(image) == (value,)


def test_two_paddings():
    image, _ = ct(padding=-2000)
    image[:, :3] = -3024
    assert padding_values(image) == (-3024, -2000)


def test_padding_far_below_other_intensities():
    image = np.random.default_rng(0).uniform(10, 80, SHAPE).astype(np.float32)
    image[:, :, :12] = -200
    assert padding_values(image) == (-200,)


@pytest.mark.parametrize(
    "image",
    [
        ct()[0],
        np.clip(ct()[0], -1024, None),
        # Magnetic resonance: background of 0, and z-scores with a background of their own.
        np.where(np.indices(SHAPE)[2] < 12, 0, np.random.default_rng(0).uniform(900, 1000, SHAPE)).astype(np.float32),
        np.where(np.indices(SHAPE)[2] < 12, -1.5, np.random.default_rng(0).normal(0.5, 1, SHAPE)).astype(np.float32),
        np.full(SHAPE, -5, np.float32),
    ],
)
def test_what_is_no_padding(image):
    assert padding_values(image) == ()


def test_few_low_voxels_are_no_padding():
    image, _ = ct()
    image[0, 0, :4] = -3024
    assert padding_values(image) == ()


def test_padding_is_left_out_of_the_percentiles(tmp_path):
    image = np.random.default_rng(0).uniform(10, 80, SHAPE).astype(np.float32)
    image[:, :, :12] = -3024
    scan = read_volume(write_scan(tmp_path / "a.nii.gz", image, (1, 1, 5)))
    array, record = prepare_volume(scan, Plan((1.0, 1.0), (32, 48)))
    inside = image[image > -3024]
    assert record["percentiles"] == [np.percentile(inside, (1, 99)).tolist()]
    assert record["padding"] == [[-3024.0]]
    assert array.max() == 1
    assert np.quantile(array[0, :, 1:31, 17:43], 0.5) == pytest.approx(0.5, abs=0.05)
    plain = np.random.default_rng(0).uniform(10, 80, SHAPE).astype(np.float32)
    _, record = prepare_volume(read_volume(write_scan(tmp_path / "b.nii.gz", plain, (1, 1, 5))), Plan((1, 1), (32, 48)))
    assert "padding" not in record
    assert record["percentiles"] == [np.percentile(plain, (1, 99)).tolist()]


def test_ct_is_told_by_air_and_tissue():
    assert looks_like_ct(ct()[0])
    assert not looks_like_ct(ct()[0] + 1024)
    assert not looks_like_ct(np.random.default_rng(0).normal(0, 1, SHAPE))
    assert not looks_like_ct(np.random.default_rng(0).uniform(-4096, 4095, SHAPE))
    assert not looks_like_ct(np.zeros(0))


def test_one_window_of_the_labelled_voxels_for_all_scans(tmp_path):
    scans = [ct(seed, padding=-3024 if seed == 1 else None) for seed in range(3)]
    found = find_windows(facts_of(tmp_path, scans), LABELS, ["image"], workers=2)
    pooled = np.concatenate([image[mask == 1] for image, mask in scans])
    assert found.windows == (tuple(np.percentile(pooled, (1, 99)).round(6).tolist()),)
    padding, recognised = found.notes
    assert padding.startswith("padding of -3024 in 1 of 3 scans looked at (30% of their voxels) is left out")
    assert recognised.startswith("image is CT (air near -1000 HU in 3 of 3 scans looked at): ")
    assert "of the labelled voxels of 3 scans" in recognised
    plan = Plan((1.0, 1.0), (32, 48), windows=found.windows)
    plan = Plan.load(plan.record())
    assert plan.windows == found.windows
    image, _ = scans[0]
    array, record = prepare_volume(read_volume(tmp_path / "i0_0.nii.gz"), plan)
    low, high = found.windows[0]
    assert record["percentiles"] == [[low, high]]
    assert array[0, 1, 16, 24] == pytest.approx(np.clip((image[1, 15, 20] - low) / (high - low), 0, 1), abs=1e-5)


def test_without_labels_the_body_gives_the_window(tmp_path):
    scans = [(ct(seed)[0], None) for seed in range(2)]
    found = find_windows(facts_of(tmp_path, scans), LABELS, ["image"])
    body = np.concatenate([image[image > -500] for image, _ in scans])
    assert found.windows[0] == pytest.approx(np.percentile(body, (1, 99)))
    assert "of the body of 2 scans" in found.notes[0]


def test_by_name_by_setting_or_not_at_all(tmp_path):
    scans = [(ct(seed)[0].clip(-150, 250), ct(seed)[1]) for seed in range(2)]
    facts = facts_of(tmp_path, scans)
    assert find_windows(facts, LABELS, ["image"]).windows == ()
    for name in ("CT", "ct", "CT_portal", "cbct", "Computed Tomography"):
        assert find_windows(facts, LABELS, [name]).windows != ()
    for name in ("T2ct1", "factor", "projection"):
        assert find_windows(facts, LABELS, [name]).windows == ()
    assert find_windows(facts, LABELS, ["image"], modality="ct").windows != ()
    assert find_windows(facts, LABELS, ["CT"], modality="other").windows == ()
    assert find_windows(facts, LABELS, ["image"], window=(-160, 240)).windows == ((-160.0, 240.0),)


def test_windows_of_several_channels(tmp_path):
    facts = facts_of(tmp_path, [ct(seed) for seed in range(2)], channels=2)
    assert find_windows(facts, LABELS, ["a", "b"], window=(0, 1)).windows == ((0.0, 1.0), (0.0, 1.0))
    assert find_windows(facts, LABELS, ["a", "b"], window=(0, 1, 2, 3)).windows == ((0.0, 1.0), (2.0, 3.0))
    with pytest.raises(SettingsError, match="one pair, or one for each of 2 channels"):
        find_windows(facts, LABELS, ["a", "b"], window=(0, 1, 2, 3, 4, 5))
    # PET beside CT: only the CT has a window for all scans.
    for number in range(2):
        write_scan(tmp_path / f"i{number}_1.nii.gz", np.abs(ct(number)[0]), (1, 1, 5))
    windows = find_windows(facts, LABELS, ["a", "b"]).windows
    assert windows[0] is not None
    assert windows[1] is None
    _, record = prepare_volume(
        read_volume([tmp_path / f"i0_{channel}.nii.gz" for channel in range(2)]),
        Plan.load(Plan((1.0, 1.0), (32, 48), channels=("a", "b"), windows=windows).record()),
    )
    assert record["percentiles"][0] == list(windows[0])
    assert record["percentiles"][1] == np.percentile(np.abs(ct(0)[0]), (1, 99)).tolist()
