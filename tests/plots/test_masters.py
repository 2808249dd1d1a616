"""The page about a master: image, histogram, profiles, words."""

import numpy as np
import pytest

import larun
from larun import flags, plots
from larun.plots.masters import profile, robust


@pytest.fixture(scope="module")
def bias():
    rng = np.random.default_rng(3)
    header = {"OBSTYPE": "BIAS", "EXPTIME": 0, "INSTRUME": "Cam $\\frac{$", "CCDTEMP": -100.0}
    columns = 1000 + 0.1 * np.arange(80)
    raws = [
        larun.Frame.from_arrays(columns + rng.normal(0, 5, (60, 80)), header=header, gain=1.5, read_noise=7.5)
        for _ in range(5)
    ]
    made = larun.MasterBias.combine(raws)
    bits = made.flags.copy()
    bits[:, 40] = flags.BAD
    data = made.data.copy()
    data[:, 40] = 1e6
    return made.with_planes(data=data, flags=bits)


def by_label(figure):
    return {ax.get_label(): ax for ax in figure.axes}


def test_robust_mean_and_sigma_against_a_normal_with_outliers(rng):
    values = rng.normal(10, 3, 100_000)
    values[:500] = 1000
    values[500:510] = np.nan
    found = robust(values)
    assert found.mean == pytest.approx(10, abs=0.05)
    assert found.sigma == pytest.approx(3, rel=0.02)
    assert found.outliers == 500
    assert robust(np.full(9, 4.0)) == (4.0, 0.0, 0)
    assert np.isnan(robust([]).mean)


def test_profiles_are_medians_of_the_good_pixels(rng):
    data = rng.normal(size=(7, 8)).astype(np.float32)
    good = rng.random((7, 8)) > 0.3
    good[:, 2] = False
    expected = [np.median(data[good[:, x], x]) if good[:, x].any() else np.nan for x in range(8)]
    np.testing.assert_allclose(profile(data, good, 0), expected, rtol=1e-6)
    expected = [np.median(data[y, good[y]]) if good[y].any() else np.nan for y in range(7)]
    np.testing.assert_allclose(profile(data, good, 1), expected, rtol=1e-6)
    assert len(profile(np.ones((3000, 4)), np.ones((3000, 4), bool), 0)) == 4


def test_the_page_shows_what_the_master_holds(bias, figure):
    assert plots.show_master(bias, figure) is figure
    axes = by_label(figure)
    figure.draw_without_rendering()
    good = ~bias.unusable
    np.testing.assert_array_equal(np.asarray(axes["image"].images[0].get_array()), bias.data)
    line = axes["columns"].lines[0].get_ydata()
    assert np.isnan(line[40])
    assert line[70] - line[10] == pytest.approx(6, abs=2)
    assert len(axes["rows"].lines[0].get_ydata()) == 60
    for name in ("columns", "rows"):
        assert axes[name].get_ylabel() == "median (adu)"
    counts = axes["histogram"].patches[0].get_data().values
    found = robust(bias.data[good])
    low, high = axes["histogram"].get_xlim()
    assert counts.sum() == ((bias.data[good] >= low) & (bias.data[good] <= high)).sum()
    assert axes["histogram"].get_title() == f"{found.mean:.6g} ± {found.sigma:.3g} adu"
    assert axes["histogram"].lines[1].get_xdata()[0] == found.mean
    normal = axes["histogram"].lines[0].get_ydata()
    assert normal.sum() == pytest.approx(good.sum(), rel=0.02)


def test_the_words_name_frames_criteria_and_flags_even_hostile_ones(bias, figure):
    plots.show_master(bias, figure, flags=True)
    figure.draw_without_rendering()  # a header's dollar signs are not mathematics
    words = by_label(figure)["about"].texts[0].get_text()
    for text in ("MasterBias: 80 × 60, adu", "frames: 5", "instrument: Cam $\\frac{$", "BAD 60", "mean, σ:"):
        assert text in words
    assert by_label(figure)["image"].get_legend().get_texts()[0].get_text() == "BAD 60"


def test_a_master_without_a_usable_pixel_has_a_page_too(bias, figure):
    empty = bias.with_planes(data=np.full(bias.shape, np.nan), flags=np.full(bias.shape, flags.NO_DATA))
    plots.show_master(empty, figure)
    figure.draw_without_rendering()
    assert by_label(figure)["histogram"].texts[0].get_text() == "no usable pixel"
