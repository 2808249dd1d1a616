"""Engines of other packages find what they find when they are called directly; larun completes the rest alike."""

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms.detect import DetectOptions, detect_matched
from larun.algorithms.engine_dao import DaoOptions
from larun.algorithms.engine_dao import find as find_dao
from larun.algorithms.engine_segmentation import SegmentationOptions
from larun.algorithms.engine_segmentation import find as find_segments
from larun.algorithms.engine_sep import SepOptions, kernel_of
from larun.algorithms.engine_sep import find as find_sep
from larun.algorithms.engines import Found, Search, complete, correlated_factor, found_by, options_of, search_of
from larun.errors import OptionError
from tests.algorithms.star_fields import draw, field

FIND = {"dao": find_dao, "sep": find_sep, "segmentation": find_segments}
OPTIONS = {"dao": DaoOptions, "sep": SepOptions, "segmentation": SegmentationOptions}


def searched(data, variance=100.0, flags=None, acf=None, **options):
    plane = np.broadcast_to(np.float32(variance), data.shape)
    flags = np.zeros(data.shape, np.uint32) if flags is None else flags
    options = DetectOptions(**({"fwhm": 3.0} | options))
    return search_of(data.astype(np.float32), np.zeros(data.shape, np.float32), plane, flags, options=options, acf=acf)


@pytest.fixture(scope="module")
def stars():
    return field(np.random.default_rng(11), 300, 50, 3.0, faintest=2000.0)


@pytest.fixture(scope="module")
def search(stars):
    level = np.full(stars.data.shape, 200.0, np.float32)
    variance = np.full(stars.data.shape, 225.0, np.float32)
    flags = np.zeros(stars.data.shape, np.uint32)
    return search_of(stars.data.astype(np.float32), level, variance, flags, options=DetectOptions(fwhm=3.0))


@pytest.mark.parametrize("engine", FIND)
def test_the_rest_is_measured_as_by_the_matched_filter(search, engine):
    found = FIND[engine](search)
    made = complete(search, found)
    assert len(made.x) > 15
    assert (np.diff(made.snr) <= 0).all()
    assert (made.snr >= search.threshold).all()
    matched = detect_matched(search.data, found.level, search.noise**2, search.flags, options=DetectOptions(fwhm=3.0))
    near = [int(np.hypot(matched.x - x, matched.y - y).argmin()) for x, y in zip(made.x, made.y, strict=True)]
    distance = np.hypot(matched.x[near] - made.x, matched.y[near] - made.y)
    bright = (made.snr > 30) & (distance < 0.3)
    assert bright.sum() > 5
    np.testing.assert_allclose(made.fwhm[bright], matched.fwhm[np.array(near)[bright]], rtol=0.02, equal_nan=True)
    assert made.flags.dtype == np.uint32


@pytest.mark.parametrize("engine", FIND)
def test_pixels_without_a_value_make_no_source_and_no_fault(engine):
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:120, :120]
    data = rng.normal(0, 10, (120, 120)) + 3000 * np.exp(-((x - 60.3) ** 2 + (y - 60.7) ** 2) / (2 * 1.4**2))
    flags = np.zeros(data.shape, np.uint32)
    data[20:24, 20:24], flags[20:24, 20:24] = 1e6, fl.BAD
    data[90, 30:36] = np.nan
    data[:, 100], flags[:, 100] = 65535, fl.BAD
    data[61, 61], flags[61, 61] = 1e6, fl.COSMIC
    search = searched(data, flags=flags)
    made = complete(search, FIND[engine](search))
    assert len(made.x) == 1
    assert np.hypot(made.x[0] - 60.3, made.y[0] - 60.7) < 0.5
    assert made.flags[0] & fl.COSMIC


@pytest.mark.parametrize("engine", FIND)
def test_pure_noise_gives_next_to_nothing_and_the_threshold_is_in_units_of_the_noise(engine):
    """The scale of the image and of its noise plays no part; at 5 sigma 0.36 Mpx of noise hold no source or one."""
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 1, (600, 600))
    y, x = np.mgrid[:600, :600]
    star = 9 * np.exp(-((x - 300) ** 2 + (y - 200) ** 2) / (2 * 1.3**2))
    counts = []
    for scale in (1.0, 50.0):
        search = searched(scale * (noise + star), variance=scale**2)
        found = FIND[engine](search)
        counts.append(len(found.x))
        assert np.hypot(found.x - 300, found.y - 200).min() < 1
    assert counts[0] == counts[1] <= 2


@pytest.mark.parametrize("engine", FIND)
def test_correlated_noise_raises_the_noise_of_what_is_filtered(engine):
    acf = np.zeros((3, 3))
    acf[1], acf[:, 1] = (0.4, 1, 0.4), (0.4, 1, 0.4)
    y, x = np.mgrid[:64, :64]
    data = 500 * np.exp(-((x - 32) ** 2 + (y - 32) ** 2) / (2 * 1.3**2))
    white, red = (FIND[engine](searched(data, acf=kernel)) for kernel in (None, acf))
    assert len(white.x) == len(red.x) == 1
    # all kernels are wider than the correlation or have a sum of zero: between 1 and the root of the sum of acf
    assert 1.05 < white.snr[0] / red.snr[0] < np.sqrt(acf.sum()) + 1e-6
    assert red.flux_error[0] > white.flux_error[0]


def test_correlated_factor_is_that_of_drawn_noise():
    rng = np.random.default_rng(2)
    drawn = rng.normal(size=(401, 400))
    drawn = (drawn[1:] + drawn[:-1]) / np.sqrt(2)
    acf = np.zeros((3, 3))
    acf[:, 1] = (0.5, 1, 0.5)
    weights = np.outer([1, 2, 1.0], [1, 1, 3.0])
    windows = np.lib.stride_tricks.sliding_window_view(drawn, (3, 3))[::3, ::3]
    scatter = np.std((windows * weights).sum(axis=(2, 3))) / np.sqrt((weights**2).sum())
    assert correlated_factor(weights, acf) == pytest.approx(scatter, rel=0.02)


def test_sep_leaves_its_global_buffer_as_it_was(search):
    import sep

    before = sep.get_extract_pixstack()
    sep.set_extract_pixstack(1000)
    try:
        assert len(find_sep(search, SepOptions(min_area=1)).x) > 10  # with 1000 pixels sep itself would give up
        assert sep.get_extract_pixstack() == 1000
    finally:
        sep.set_extract_pixstack(before)


def test_sep_that_gives_up_is_an_option_error():
    rng = np.random.default_rng(3)
    search = searched(100 + rng.normal(0, 10, (400, 400)) - 0.0, threshold=1.0)
    lifted = search._replace(data=search.data + 100 * (np.hypot(*np.mgrid[-200:200, -200:200]) < 150))
    with pytest.raises(OptionError, match=r"sep gave up.*deblend_contrast"):
        find_sep(lifted._replace(mesh=400), SepOptions(min_area=1, deblend_contrast=0.0))


def test_engines_do_not_write_into_what_they_are_given(search):
    before = [np.array(plane) for plane in search[:5]]
    for find in FIND.values():
        find(search)
    for old, new in zip(before, search[:5], strict=True):
        np.testing.assert_array_equal(old, new)
        assert not new.flags.writeable


def test_kernels_of_sep():
    assert kernel_of(SepOptions(kernel="none"), 3.0) is None
    assert kernel_of(SepOptions(), 3.0).shape == (3, 3)
    gaussian = kernel_of(SepOptions(kernel="gaussian"), 3.0)
    assert gaussian.sum() == pytest.approx(1)
    assert gaussian.shape[0] > 5


@pytest.mark.parametrize(
    ("engine", "wrong"),
    [
        ("dao", {"sharpness": (1.0, 0.2)}),
        ("dao", {"roundness": 3}),
        ("dao", {"ratio": 0}),
        ("dao", {"exclude_border": "yes"}),
        ("sep", {"min_area": 0}),
        ("sep", {"min_area": 2.5}),
        ("sep", {"kernel": "box"}),
        ("sep", {"deblend_contrast": 2}),
        ("segmentation", {"connectivity": 6}),
        ("segmentation", {"mode": "log"}),
        ("segmentation", {"levels": True}),
    ],
)
def test_options_that_make_no_sense_are_errors_that_name_them(engine, wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        options_of(OPTIONS[engine], engine, wrong)


def test_an_option_the_engine_does_not_have_lists_what_it_has():
    with pytest.raises(OptionError, match=r"dao has no min_area; it has sharpness, roundness.*exclude_border"):
        options_of(DaoOptions, "dao", {"min_area": 3})
    with pytest.raises(OptionError, match="takes a DaoOptions, or a mapping"):
        options_of(DaoOptions, "dao", SepOptions())
    assert options_of(DaoOptions, "dao", {"sharpness": [0.1, 1]}) == DaoOptions(sharpness=(0.1, 1))


def places(search):
    return [[10.2, 20.1], [30.0, 5.0]]


def test_a_function_may_return_places_a_mapping_or_a_table(search):
    from astropy.table import QTable

    for made in (
        places(search),
        {"x": [10.2, 30.0], "y": [20.1, 5.0]},
        QTable({"x": [10.2, 30.0], "y": [20.1, 5.0], "flux": [5.0, 6.0]}),
        Found(np.array([10.2, 30.0]), np.array([20.1, 5.0])),
    ):
        found = found_by(lambda search, made=made: made, search, {})
        np.testing.assert_array_equal(found.x, [10.2, 30.0])
        full = complete(search, found)
        assert sorted(full.x) == [10.2, 30.0]
        assert all(len(column) == 2 for column in full)
    assert len(complete(search, found_by(lambda search: [], search, {})).x) == 0


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (None, "must be an"),
        ("stars", "returned a str"),
        (np.zeros((3, 3)), r"shape \(3, 3\)"),
        ({"x": [1.0]}, "returned x"),
        ({"x": [1.0], "y": [1.0], "colour": [2]}, "colour"),
        ({"x": [1.0, 2.0], "y": [1.0]}, "one length"),
        ({"x": ["a"], "y": [1.0]}, "must be numbers"),
        ([[np.nan, 1.0]], "x = nan"),
        ([[1.0, 300.0]], r"y = 300.0: must lie within -0.5 … 299.5"),
        ({"x": [1.0], "y": [1.0], "snr": [np.inf]}, "not finite"),
        ({"x": [1.0], "y": [1.0], "level": np.zeros((2, 2))}, "a level of shape"),
    ],
)
def test_what_a_function_must_not_return(search, made, says):
    def my_finder(search):
        return made

    with pytest.raises(OptionError, match=says) as caught:
        found_by(my_finder, search, {})
    assert "my_finder" in str(caught.value)


def test_errors_of_positions_are_what_they_say():
    """400 stars of S/N 80 on a grid; robust pulls, own error 4 %; sep and segmentation as their pages say."""
    rng = np.random.default_rng(12)
    grid = np.arange(20, 720, 35.0)
    x, y = (axis.ravel() + rng.uniform(-0.5, 0.5, grid.size**2) for axis in np.meshgrid(grid, grid))
    light = 100 + draw((740, 740), x, y, np.full(len(x), 6000.0), 3.0, 3.0)
    data = rng.poisson(light) + rng.normal(0, 5, light.shape)
    search = searched(data, variance=125.0)
    for engine, limits in {"dao": (0.85, 1.2), "sep": (0.95, 1.5), "segmentation": (0.9, 1.35)}.items():
        made = complete(search, FIND[engine](search))
        near = [int(np.hypot(made.x - a, made.y - b).argmin()) for a, b in zip(x, y, strict=True)]
        pulls = np.concatenate([(made.x[near] - x) / made.x_error[near], (made.y[near] - y) / made.y_error[near]])
        assert limits[0] < 1.4826 * np.median(np.abs(pulls - np.median(pulls))) < limits[1], engine


def test_search_is_plain_and_read_only(search):
    assert isinstance(search, Search)
    signal = search.signal
    assert signal.flags.writeable
    assert signal.dtype == np.float32
    assert signal.dtype.isnative
    np.testing.assert_allclose(signal, search.data - 200)
