import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.signal import fftconvolve
from scipy.spatial import KDTree

from larun import flags as flagtable
from larun.algorithms.background import background
from larun.algorithms.detect import FINDING_MASK, DetectOptions, _groups, detect_matched, detect_peaks
from larun.algorithms.jit import set_threads
from larun.algorithms.peaks import flagged, gaussian_profile, local_maxima, noise_factor, signal_to_noise
from larun.errors import OptionError
from tests.algorithms.star_fields import draw, field, grid
from tests.conftest import real_data

FWHM = 3.0


def planes(data, noise=1.0, flags=None):
    data = data.astype(np.float32)
    noise = np.broadcast_to(np.float32(noise), data.shape)
    flags = np.zeros(data.shape, np.uint32) if flags is None else flags
    return data, np.zeros_like(data), np.ascontiguousarray(noise, np.float32), flags


def found_in(data, noise=1.0, flags=None, acf=None, **options):
    return detect_matched(*planes(data, noise, flags), options=DetectOptions(**options), acf=acf)


def reference_profile(fwhm):
    sigma = fwhm / np.sqrt(8 * np.log(2))
    radius = int(np.ceil(4 * sigma - 0.5))
    edges = np.arange(-radius, radius + 2) - 0.5
    weights = np.diff(stats.norm.cdf(edges, scale=sigma))
    return weights / weights.sum()


def reference_maxima(rng, size, images, threshold, blur=None):
    """Brute force: noise, scipy's convolution, the scatter it has, and 3 × 3 maxima."""
    profile, count = reference_profile(FWHM), 0
    for _ in range(images):
        image = rng.standard_normal((size, size), np.float32)
        if blur is not None:
            for axis in (0, 1):
                image = ndimage.convolve1d(image, blur, axis=axis, mode="wrap")
        for axis in (0, 1):
            image = ndimage.convolve1d(image, profile, axis=axis, mode="wrap")
        high = np.argwhere(image > threshold * image.std())
        inner = high[(high > 0).all(axis=1) & (high < size - 1).all(axis=1)]
        around = [image[inner[:, 0] + j, inner[:, 1] + i] for j in (-1, 0, 1) for i in (-1, 0, 1)]
        count += int((around[4] >= np.max(around, axis=0)).sum())
    return count


def assert_gaussian_tails(snr, correlated_pixels):
    """Tails over ±u, within 4.5 standard errors for the given number of pixels that move together."""
    assert snr.std() == pytest.approx(1, abs=0.004)
    for u in (1.0, 2.0, 3.0, 4.0):
        expected = stats.norm.sf(u) * snr.size
        for tail in ((snr > u).sum(), (snr < -u).sum()):
            assert tail == pytest.approx(expected, abs=4.5 * np.sqrt(expected * correlated_pixels))


def test_acceptance_22_five_sigma_is_five_sigma_on_white_noise():
    """100.7 Mpix: a third of it with a noise that falls by 3 from the centre to the corners."""
    size, images = 4096, 6
    rng, other = np.random.default_rng(1), np.random.default_rng(2)
    radius = np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j])
    vignetted = (9 - 2.8 * radius**2).astype(np.float32) ** 2
    white = np.full((size, size), 4.0, np.float32)
    maxima = kept = 0
    for n in range(images):
        noise = vignetted if n % 3 == 2 else white
        data = rng.standard_normal((size, size), np.float32) * np.sqrt(noise)
        maxima += found_in(data, noise, fwhm=FWHM, threshold=4, prominence=0, contrast=0).x.size
        if n in (0, 2):
            kept += found_in(data, noise, fwhm=FWHM, threshold=4).x.size
            snr = signal_to_noise(planes(data, noise), FINDING_MASK, gaussian_profile(FWHM), 1.0)
            assert_gaussian_tails(snr, 4 * np.pi * (FWHM / 2.355) ** 2)
            if n == 2:  # the corners, where the noise is least, alone
                assert_gaussian_tails(snr[:512, :512].copy(), 3 * 4 * np.pi * (FWHM / 2.355) ** 2)
    expected = reference_maxima(other, size, images, 4.0)
    assert expected > 1500
    assert abs(maxima - expected) < 3 * np.sqrt(maxima + expected)
    assert kept / (maxima / 3) > 0.93  # the prominence takes little from lone maxima


def test_acceptance_22_maxima_of_resampled_noise():
    size, images = 4096, 2
    shift = 0.4
    blur = np.array([shift, 1 - shift])  # a bilinear shift by 0.4 px on both axes
    along = np.array([shift * (1 - shift), shift**2 + (1 - shift) ** 2, shift * (1 - shift)])
    along /= along[1]
    acf = np.outer(along, along)
    rng, other = np.random.default_rng(3), np.random.default_rng(4)
    maxima = naive = 0
    for _ in range(images):
        data = rng.standard_normal((size, size), np.float32)
        for axis in (0, 1):
            data = ndimage.convolve1d(data, blur, axis=axis, mode="wrap")
        variance = (blur**2).sum() ** 2
        found = found_in(data, variance, acf=acf, fwhm=FWHM, threshold=4, prominence=0, contrast=0)
        maxima += found.x.size
        naive += found_in(data, variance, fwhm=FWHM, threshold=4, prominence=0, contrast=0).x.size
        star = gaussian_profile(FWHM)
        snr = signal_to_noise(planes(data, variance), FINDING_MASK, star, noise_factor(star, star, acf))
        assert_gaussian_tails(snr, 4 * np.pi * (FWHM / 2.355) ** 2)
    expected = reference_maxima(other, size, images, 4.0, blur)
    assert abs(maxima - expected) < 3 * np.sqrt(maxima + expected)
    assert naive > 3 * expected  # what it is without the autocorrelation


def test_acceptance_22_masked_pixels_leave_the_noise_gaussian():
    rng = np.random.default_rng(5)
    size = 2048
    data = rng.standard_normal((size, size), np.float32) * 3
    flags = np.zeros((size, size), np.uint32)
    flags[rng.random((size, size)) < 0.03] = flagtable.BAD
    flags[:, 100::200] = flagtable.COSMIC
    flags[1000:1100, 500:700] = flagtable.NO_DATA
    data[flags != 0] = np.where(rng.random((flags != 0).sum()) < 0.5, np.nan, 1e6)
    snr = signal_to_noise(planes(data, 9.0, flags), FINDING_MASK, gaussian_profile(FWHM), 1.0)
    assert np.isfinite(snr).all()
    assert (snr[1010:1090, 510:690] == 0).all()
    valid = snr[snr != 0]
    assert valid.std() == pytest.approx(1, abs=0.01)
    beside = snr[:, 99::200]
    assert beside.std() == pytest.approx(1, abs=0.02)
    assert found_in(data, 9.0, flags, fwhm=FWHM, threshold=5.5).x.size <= 2


@pytest.mark.parametrize("fwhm", [2.0, 3.5, 6.0])
def test_acceptance_22_completeness_of_an_ideal_detector_that_knows_the_star(fwhm):
    rng = np.random.default_rng(int(10 * fwhm))
    step, beta, sky = int(np.ceil(8 * fwhm)), 3.5, 100.0
    size = 40 * step
    unit = draw((61, 61), [30.0], [30.0], [1.0], fwhm, beta)
    x, y = grid(rng, size, step)
    clean = draw((size, size), x, y, np.ones(x.size), fwhm, beta, reach=step // 2)
    for snr in (4.0, 5.0, 6.0):
        flux = snr * np.sqrt(sky / (unit**2).sum())
        data = (flux * clean + rng.normal(0, np.sqrt(sky), clean.shape)).astype(np.float32)
        ideal = fftconvolve(data, unit, mode="same") / np.sqrt(sky * (unit**2).sum())
        peaks = local_maxima(ideal.astype(np.float32), 5.0)
        ours = found_in(data, sky, fwhm=fwhm)

        def completeness(px, py, x=x, y=y, shape=(40, 40)):
            near = np.zeros(shape, bool)
            column, row = (np.clip(p // step, 0, 39).astype(int) for p in (px, py))
            cell = row * 40 + column
            hit = np.hypot(px - x[cell], py - y[cell]) < 1.5 * fwhm
            near.flat[cell[hit]] = True
            return near.mean()

        found = completeness(ours.x, ours.y)
        assert found == pytest.approx(completeness(peaks % size, peaks // size), abs=0.03)
        assert 0.05 < found < 0.99


def matched_pairs(x, y, tx, ty, strength, radius):
    """For each source, brightest first, the strongest unused truth within the radius, or -1."""
    tree, used, pairs = KDTree(np.column_stack([tx, ty])), set(), np.full(x.size, -1)
    for n, near in enumerate(tree.query_ball_point(np.column_stack([x, y]), radius)):
        free = [k for k in near if k not in used]
        if free:
            pairs[n] = max(free, key=lambda k: strength[k])
            used.add(pairs[n])
    return pairs


def test_completeness_and_purity_in_a_star_field(rng):
    sky = field(rng, 1280, 1953, 3.5)  # as 20 000 stars in 4096²
    flags = np.zeros(sky.data.shape, np.uint32)
    made = background(sky.data, sky.variance, flags != 0)
    found = detect_matched(sky.data, made.level, made.variance, flags, options=DetectOptions(fwhm=3.5))
    unit = draw((41, 41), [20.0], [20.0], [1.0], 3.5, 3.0)
    snr = sky.flux * np.sqrt((unit**2).sum() / 225)
    real = snr > 2
    pairs = matched_pairs(found.x, found.y, sky.x[real], sky.y[real], snr[real], 2.0)
    assert (pairs >= 0).mean() > 0.985
    hit = np.isin(np.arange(real.sum()), pairs)
    faint, medium = (snr[real] > 5) & (snr[real] < 10), (snr[real] > 10) & (snr[real] < 50)
    ideal = stats.norm.cdf(snr[real][faint] - 5).mean()  # an isolated star, a filter without loss
    assert hit[faint].mean() > ideal - 0.1
    assert hit[medium].mean() > 0.95
    assert hit[snr[real] > 50].mean() > 0.97
    assert (np.diff(found.snr) <= 0).all()


def test_agrees_with_photutils_on_the_bright_stars(rng):
    from photutils.detection import DAOStarFinder

    sky = field(rng, 800, 400, 3.5)
    flags = np.zeros(sky.data.shape, np.uint32)
    made = background(sky.data, sky.variance, flags != 0)
    theirs = DAOStarFinder(threshold=5 * 15, fwhm=3.5)((sky.data - made.level).astype(float))
    tx, ty = np.array(theirs["x_centroid"]), np.array(theirs["y_centroid"])
    for finder in (detect_matched, detect_peaks):
        found = finder(sky.data, made.level, made.variance, flags, options=DetectOptions(fwhm=3.5))
        distance, _ = KDTree(np.column_stack([found.x, found.y])).query(np.column_stack([tx, ty]))
        assert tx.size > 40
        assert (distance < 1).mean() >= 0.99


def test_wings_of_a_bright_star_hold_no_sources(rng):
    image = draw((300, 300), [150.3], [149.8], [3e6], 4.0, 2.5, reach=140)
    data = rng.poisson(image + 100) - 100.0
    found = found_in(data, 100.0, fwhm=4.0)
    near = np.hypot(found.x - 150.3, found.y - 149.8) < 60
    assert near.sum() == 1
    assert np.hypot(found.x[0] - 150.3, found.y[0] - 149.8) < 0.01
    every = found_in(data, 100.0, fwhm=4.0, prominence=0, contrast=0)
    assert every.x.size > found.x.size  # what the prominence is for


def test_a_faint_companion_on_a_bright_wing_is_kept(rng):
    image = draw((120, 120), [60.0, 71.0], [60.0, 60.0], [1e5, 4e3], 4.0, 3.0, reach=60)
    found = found_in(rng.poisson(image + 100) - 100.0, 100.0, fwhm=4.0)
    assert np.hypot(found.x - 71, found.y - 60).min() < 0.7


@pytest.mark.parametrize("bleeding", [0, 12])
@pytest.mark.parametrize("stored", [60000.0, 0.0, np.nan])
def test_a_saturated_star_is_one_flagged_source(rng, bleeding, stored):
    x, y = np.array([60.3, 150.7, 149.9]), np.array([70.2, 60.4, 161.8])
    image = draw((220, 220), x, y, [4e6, 2e6, 9e4], 4.0, 3.0, reach=60)
    data = rng.poisson(image + 200) - 200.0
    saturated = data >= 60000
    for cx, cy in zip(x[:2].round().astype(int), y[:2].round().astype(int), strict=True):
        saturated[cy - bleeding : cy + bleeding + 1, cx] = True
    flags = np.where(saturated, flagtable.SATURATED, np.uint32(0)).astype(np.uint32)
    data[saturated] = stored
    found = found_in(data, 200.0, flags, fwhm=4.0)
    flagged = found.flags & flagtable.SATURATED != 0
    assert flagged.sum() == 2
    for cx, cy in zip(x[:2], y[:2], strict=True):
        distance = np.hypot(found.x - cx, found.y - cy)
        assert (distance < 12).sum() == 1
        assert distance.min() < (0.3 if stored == 60000 and bleeding == 0 else 12)
    assert np.hypot(found.x - x[2], found.y - y[2]).min() < 0.05


@pytest.mark.parametrize("value", [65535.0, -3000.0, np.nan])
def test_bad_columns_make_no_sources(rng, value):
    data = rng.normal(0, 10, (600, 600))
    flags = np.zeros(data.shape, np.uint32)
    for column in (100, 300, 301, 599):
        data[:, column] = value
        flags[:, column] = flagtable.BAD | (flagtable.SATURATED if value > 0 else 0)
    found = found_in(data, 100.0, flags, fwhm=3.0)
    assert found.x.size == 0


def test_stars_at_the_edge_are_found_and_flagged(rng):
    image = draw((100, 100), [0.2, 50.0, 99.0, 50.0], [50.0, 98.7, 0.0, 50.0], [5e3] * 4, 3.0)
    found = found_in(image + rng.normal(0, 5, image.shape), 25.0, fwhm=3.0)
    assert found.x.size == 4
    edge = found.flags & flagtable.EDGE != 0
    assert edge.sum() == 3
    assert np.hypot(found.x[~edge] - 50, found.y[~edge] - 50).max() < 0.1
    corner = np.hypot(found.x - 99, found.y).min()
    assert corner < 0.3
    assert all(np.isfinite(column).all() for column in found[:8])


def test_order_and_ties_are_defined():
    image = draw((120, 120), [20.0, 90.0, 20.0, 60.0], [90.0, 20.0, 20.0, 60.0], [1e3, 1e3, 1e3, 2e3], 3.0, reach=12)
    found = found_in(image, 25.0, fwhm=3.0)
    assert list(zip(found.x.round(), found.y.round(), strict=True)) == [(60, 60), (20, 20), (90, 20), (20, 90)]
    flat_top = np.zeros((30, 30), np.float32)
    flat_top[10:12, 14:17] = 50
    assert local_maxima(flat_top, 5).tolist() == [10 * 30 + 14]


def test_acceptance_34_threads_do_not_change_a_bit_of_the_detections(rng):
    sky = field(rng, 500, 700, 3.0)
    flags = np.where(rng.random(sky.data.shape) < 1e-3, flagtable.BAD, np.uint32(0)).astype(np.uint32)
    flags[200:204, 300:303] = flagtable.SATURATED
    try:
        results = []
        for count in (1, 5):
            set_threads(count)
            results.append(
                detect_matched(sky.data, sky.data * 0 + 200, sky.variance, flags, options=DetectOptions(fwhm=3.0))
            )
    finally:
        set_threads(None)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("fwhm", [0, 1.0, 2.0, 3.0, 4.7])
def test_the_filter_is_that_of_plain_sums_whatever_the_bands(rng, fwhm, monkeypatch):
    data = rng.normal(0, 10, (150, 131)).astype(np.float32)
    noise = rng.uniform(50, 150, data.shape).astype(np.float32)
    flags = np.where(rng.random(data.shape) < 0.02, flagtable.BAD, np.uint32(0)).astype(np.uint32)
    flags[40:60, 50:70], data[5, 5], noise[90, 30] = flagtable.BAD, np.nan, np.inf
    profile = gaussian_profile(fwhm)
    made = signal_to_noise(planes(data, noise, flags), FINDING_MASK, profile, 1.5)
    usable = np.isfinite(data) & np.isfinite(noise) & (flags == 0)
    kernel = np.outer(profile, profile)
    top = ndimage.convolve(np.where(usable, data, 0).astype(float), kernel, mode="constant")
    bottom = ndimage.convolve(np.where(usable, noise, 0).astype(float), kernel**2, mode="constant")
    expected = np.where(bottom > 0.3 * (kernel**2).sum() * noise, top / np.sqrt(np.maximum(bottom, 1e-9)) / 1.5, 0)
    np.testing.assert_allclose(made, expected, rtol=3e-6, atol=3e-6)
    maxima = local_maxima(made, 1.0)
    monkeypatch.setattr("larun.algorithms.peaks._BAND", 7)
    np.testing.assert_array_equal(signal_to_noise(planes(data, noise, flags), FINDING_MASK, profile, 1.5), made)
    np.testing.assert_array_equal(local_maxima(made, 1.0), maxima)
    np.testing.assert_array_equal(flagged(flags, int(flagtable.BAD), 0), np.flatnonzero(flags))


def test_maxima_are_those_of_all_neighbours(rng):
    steps = rng.integers(0, 4, (70, 90)).astype(np.float32)
    expected = []
    for y, x in np.ndindex(steps.shape):
        near = [(j, i) for j in range(y - 1, y + 2) for i in range(x - 1, x + 2) if 0 <= j < 70 and 0 <= i < 90]
        higher = any(steps[c] > steps[y, x] or (steps[c] == steps[y, x] and c < (y, x)) for c in near)
        if steps[y, x] >= 2 and not higher:
            expected.append(90 * y + x)
    assert local_maxima(steps, 2.0).tolist() == expected


def test_saturated_pixels_are_grouped_with_their_eight_neighbours(rng):
    plane = rng.random((80, 70)) < 0.3
    labels, count = ndimage.label(plane, structure=np.ones((3, 3)))
    groups = _groups(np.flatnonzero(plane), 70)
    pairs = set(zip(labels[plane].tolist(), groups.tolist(), strict=True))
    assert len(pairs) == count == groups.max() + 1


def test_peaks_are_local_maxima_of_the_image_itself(rng):
    sky = field(rng, 600, 300, 3.5)
    flags = np.zeros(sky.data.shape, np.uint32)
    made = background(sky.data, sky.variance, flags != 0)
    options = DetectOptions(fwhm=3.5, threshold=6)
    simple = detect_peaks(sky.data, made.level, made.variance, flags, options=options)
    matched = detect_matched(sky.data, made.level, made.variance, flags, options=options)
    assert simple.x.size < matched.x.size  # single pixels hold less signal than the filter gathers
    unit = draw((41, 41), [20.0], [20.0], [1.0], 3.5, 3.0)
    bright = sky.flux * unit.max() > 12 * 15
    pairs = matched_pairs(simple.x, simple.y, sky.x[bright], sky.y[bright], sky.flux[bright], 1.0)
    assert (pairs >= 0).sum() >= 0.95 * bright.sum()
    assert np.all(simple.snr >= 6)
    np.testing.assert_allclose(simple.snr * np.sqrt(np.median(made.variance)), simple.peak, rtol=0.1)


def test_autocorrelation_scales_the_errors(rng):
    image = draw((60, 60), [30.2], [29.7], [3e4], 3.0) + rng.normal(0, 1, (60, 60))
    along = np.array([0.5, 1.0, 0.5])
    acf = np.outer(along, along)
    plain, scaled = found_in(image, fwhm=3.0), found_in(image, fwhm=3.0, acf=acf)
    assert 1.6 < plain.snr[0] / scaled.snr[0] < 2.0
    for name in ("x_error", "y_error", "flux_error"):
        assert 1.2 < getattr(scaled, name)[0] / getattr(plain, name)[0] < 2.0
    assert noise_factor(np.ones(3), np.ones(3), np.ones((1, 1))) == 1.0


def test_a_blank_image_gives_an_empty_catalogue():
    found = found_in(np.zeros((40, 50)), fwhm=3.0)
    assert all(column.size == 0 for column in found)
    nothing = found_in(np.full((40, 50), np.nan), np.nan, fwhm=3.0)
    assert nothing.x.size == 0
    assert nothing.flags.dtype == np.uint32


@pytest.mark.parametrize(
    "wrong",
    [{"fwhm": 0.1}, {"fwhm": np.nan}, {"threshold": 0}, {"prominence": -1}, {"contrast": 1.0}, {"gain": 0}],
)
def test_options_name_what_is_wrong(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        DetectOptions(**{"fwhm": 3.0, **wrong})


def test_impossible_input_raises():
    image = np.zeros((20, 20), np.float32)
    options = DetectOptions(fwhm=3.0)
    with pytest.raises(OptionError, match="one shape"):
        detect_matched(image, image[:10], image, image.astype(np.uint32), options=options)
    for acf in (np.ones((2, 2)), np.ones((3, 4)), np.full((3, 3), np.nan), 0.5 * np.ones((3, 3))):
        with pytest.raises(OptionError, match="acf"):
            found_in(image, acf=acf, fwhm=3.0)


def nickel(name):
    """Overscan-subtracted electrons, the dead column masked, noise from photons and read noise."""
    from astropy.io import fits

    with fits.open(real_data("nickel", f"{name}.fits.fz")) as hdus:
        raw = next(hdu.data for hdu in hdus if hdu.data is not None).astype(np.float32)
    data = (raw[:, :1024] - np.median(raw[:, 1028:1056], axis=1)[:, None]) * np.float32(1.79)
    flags = np.zeros(data.shape, np.uint32)
    flags[:, 256] = flagtable.BAD
    variance = np.maximum(data, 0) + np.float32((5.8 * 1.79) ** 2)
    return data, variance, flags


def test_real_globular_cluster():
    data, variance, flags = nickel("d1059")
    made = background(data, variance, flags & flagtable.UNUSABLE != 0)
    found = detect_matched(data, made.level, made.variance, flags, options=DetectOptions(fwhm=6.0))
    assert 900 <= found.x.size < 4000
    # no pile of sources along the dead column
    density = np.histogram(found.x, bins=np.arange(206, 307, 10))[0]
    assert density[5] < 2 * np.median(density) + 5
    bright = found.snr > 200
    assert 5 < np.nanmedian(found.fwhm[bright]) < 7.5
    # centroids neither leave the image nor run to a neighbour: what has none is said to be uncertain
    assert (found.x >= -0.5).all()
    assert (found.y >= -0.5).all()
    assert (found.x <= data.shape[1] - 0.5).all()
    assert (found.y <= data.shape[0] - 0.5).all()
    lost = (found.x == np.round(found.x)) & (found.y == np.round(found.y))
    assert (found.x_error[lost] >= 3).all()
    assert (found.y_error[lost] >= 3).all()
    assert (lost & (found.flags & flagtable.EDGE == 0)).sum() < 0.005 * found.x.size


@pytest.mark.parametrize("outside", [-2.5, -1.5, -0.9])
def test_a_star_beyond_the_border_stays_in_the_image_and_is_flagged(rng, outside):
    x, y = np.array([outside, 30.3, 59 - outside]), np.array([30.2, outside, 20.4])
    image = draw((80, 80), x + 10, y + 10, [2e4] * 3, 4.0)[10:70, 10:70]
    found = found_in(image + rng.normal(0, 3, image.shape), 9.0, fwhm=4.0)
    assert found.x.size >= 3
    assert (np.abs(found.x - 29.5) <= 30).all()
    assert (np.abs(found.y - 29.5) <= 30).all()
    for cx, cy in zip(x, y, strict=True):
        nearest = int(np.argmin(np.hypot(found.x - cx, found.y - cy)))
        assert found.flags[nearest] & flagtable.EDGE
        pulls = ((found.x - cx) / found.x_error)[nearest], ((found.y - cy) / found.y_error)[nearest]
        assert np.abs(pulls).max() < 4


@pytest.mark.parametrize("noise", [0.0, np.nan, np.inf])
def test_where_the_noise_is_no_number_nothing_is_found(noise, rng):
    image = rng.normal(0, 10, (128, 128)) + 500 * (np.hypot(*(np.indices((128, 128)) - 30)) < 2)
    image += 500 * (np.hypot(*(np.indices((128, 128)) - 90)) < 2)
    variance = np.full(image.shape, 100.0)
    variance[:64, :64] = noise
    found = detect_matched(
        image, np.zeros(image.shape), variance, np.zeros(image.shape, np.uint32), options=DetectOptions(fwhm=3.0)
    )
    assert len(found.x) == 1
    assert found.x[0] == pytest.approx(90, abs=0.5)
