import numpy as np
import pytest

from larun.algorithms.background import BackgroundOptions, background
from larun.algorithms.jit import set_threads
from larun.errors import OptionError
from tests.algorithms.star_fields import field


def usable(image):
    return np.zeros(image.shape, bool)


def test_level_rms_and_variance_of_plain_noise(rng):
    data = rng.normal(300, 12, (1000, 1100)).astype(np.float32)
    made = background(data, np.full_like(data, 144), usable(data))
    # 285 cells: the mean level is known to about 12 / sqrt(1.1e6) * 2 (efficiency of the mode) = 0.02
    assert made.level.mean() == pytest.approx(300, abs=0.08)
    assert made.level.std() < 0.4
    assert made.rms.mean() == pytest.approx(12, rel=0.01)
    assert np.all(made.variance == 144)
    assert made.mesh_level.shape == made.fraction_used.shape == (16, 17)
    assert made.level.dtype == made.rms.dtype == made.variance.dtype == np.float32


def test_without_variance_the_noise_is_the_scatter(rng):
    data = rng.normal(0, 3, (256, 256)).astype(np.float32)
    made = background(data, None, usable(data))
    np.testing.assert_array_equal(made.variance, made.rms**2)


def test_crowded_sky_is_less_biased_than_photutils(rng):
    from photutils.background import Background2D

    sky = field(rng, 640, 2441, 3.5)  # as 100 000 stars in 4096²
    made = background(sky.data, sky.variance, usable(sky.data))
    theirs = Background2D(sky.data, 64).background.mean() - 200
    ours = made.level.mean() - 200
    assert 0 < ours < 1.8
    assert ours < 0.8 * theirs
    # the noise is that of the sky (15), not of the stars
    assert np.sqrt(np.median(made.variance)) == pytest.approx(15, rel=0.01)
    assert np.median(made.rms) == pytest.approx(15, rel=0.05)


def test_agrees_with_photutils_on_a_sparse_sloping_sky(rng):
    from photutils.background import Background2D

    sky = field(rng, 512, 100, 3.5)
    slope = np.linspace(0, 60, 512, dtype=np.float32)[None, :] + np.zeros((512, 1), np.float32)
    made = background(sky.data + slope, sky.variance + slope, usable(sky.data))
    theirs = Background2D(sky.data + slope, 64)
    inner = np.s_[64:-64, 64:-64]
    assert np.median(made.level - theirs.background) == pytest.approx(0, abs=0.6)
    assert np.abs(made.level - theirs.background)[inner].max() < 3
    assert np.median(made.rms / theirs.background_rms) == pytest.approx(1, abs=0.03)


def test_a_sloping_sky_is_followed_to_the_corners():
    y, x = np.mgrid[:300, :420].astype(np.float32)
    plane = 100 + 0.2 * x - 0.1 * y
    for size in (1, 3):
        made = background(plane, None, usable(plane), options=BackgroundOptions(filter_size=size))
        np.testing.assert_allclose(made.level, plane, atol=0.01)


def test_noise_variance_is_not_raised_by_the_rectified_photon_term(rng):
    data = rng.normal(0, 1.5, (512, 512)).astype(np.float32)  # no sky at all, read noise 1.5
    variance = (np.maximum(data, 0) + 1.5**2).astype(np.float32)
    assert variance.mean() > 1.25 * 1.5**2
    made = background(data, variance, usable(data))
    # half of the pixels are rectified: the median is the read noise
    assert np.median(made.variance) == pytest.approx(1.5**2, rel=0.03)


def test_acceptance_06_masked_and_nan_pixels_do_not_spread(rng):
    clean = rng.normal(50, 4, (384, 384)).astype(np.float32)
    masked = usable(clean)
    masked[64:192, 100:260] = True  # whole cells, and parts
    masked[:, 300] = True
    dirty = clean.copy()
    dirty[masked] = np.nan
    variance = np.where(masked, np.float32(np.nan), np.float32(16))
    made = background(dirty, variance, masked)
    assert all(np.isfinite(plane).all() for plane in made)
    assert np.abs(made.level - 50).max() < 2
    assert (made.fraction_used[1:3, 2:4] == 0).all()
    wild = np.where(masked, np.float32(1e9), clean)
    for one, other in zip(made, background(wild, variance, masked), strict=True):
        np.testing.assert_array_equal(one, other)
    unflagged = dirty.copy()
    np.testing.assert_array_equal(background(unflagged, variance, usable(clean)).level, made.level)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (40, 300), (64, 64), (65, 130), (97, 31)])
def test_any_size_of_image(rng, shape):
    data = rng.normal(10, 1, shape).astype(np.float32)
    made = background(data, np.ones_like(data), usable(data))
    assert made.level.shape == shape
    assert np.isfinite(made.level).all()
    assert np.isfinite(made.rms).all()
    assert abs(float(np.median(made.level)) - 10) < 6 / np.sqrt(data.size) + 0.5


def test_constant_and_quantised_images():
    data = np.full((130, 130), 7, np.float32)
    made = background(data, None, usable(data))
    assert (made.level == 7).all()
    assert (made.rms == 0).all()
    counts = np.random.default_rng(3).poisson(0.4, (256, 256)).astype(np.float32)
    assert background(counts, None, usable(counts)).level.mean() == pytest.approx(
        0.4, abs=0.08
    )  # the mode of bins of mean 0.4


def test_acceptance_34_threads_do_not_change_a_bit(rng):
    sky = field(rng, 300, 200, 3.0)
    try:
        results = []
        for count in (1, 5):
            set_threads(count)
            results.append(background(sky.data, sky.variance, usable(sky.data)))
    finally:
        set_threads(None)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "wrong", [{"mesh": 4}, {"mesh": 20.5}, {"filter_size": 2}, {"filter_size": 0}, {"sigma": 0.5}, {"sigma": np.nan}]
)
def test_options_name_what_is_wrong(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        BackgroundOptions(**wrong)


def test_impossible_input_raises(rng):
    data = np.ones((100, 100), np.float32)
    with pytest.raises(OptionError, match="usable pixels"):
        background(data, None, ~usable(data))
    with pytest.raises(OptionError, match="finite value"):
        background(data, data * np.nan, usable(data))
    with pytest.raises(OptionError, match="same shape"):
        background(data, data[:50], usable(data))
    with pytest.raises(OptionError, match="same shape"):
        background(data[:0], None, usable(data[:0]))
