"""Cosmic rays are found, stars are not: simulated scenes with known truth, and a plain reference."""

import functools

import numpy as np
import pytest
from scipy import ndimage

from larun.algorithms import cosmic, cosmic_common, engine_astroscrappy, jit
from larun.algorithms.background import background
from larun.algorithms.cosmic import CosmicOptions, lacosmic
from larun.algorithms.cosmic_common import protected_stars, replace_pixels
from larun.algorithms.cosmic_median import clip_against_median
from larun.algorithms.fwhm import estimate_fwhm
from larun.errors import OptionError
from larun.simulate.cosmics import cosmic_rays
from tests.algorithms import reference_cosmic

SKY, READ_NOISE, FULL_WELL = 200.0, 8.0, 60_000.0


def add_moffat(image, y, x, flux, fwhm, beta=2.5, *, ellipticity=0.0, theta=0.0):
    """Add a Moffat star, integrated over pixels by 5 × 5 points in each; ``fwhm`` is the geometric mean of the axes."""
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    y0, x0 = round(y), round(x)
    rows = np.arange(max(0, y0 - 30), min(image.shape[0], y0 + 31))
    columns = np.arange(max(0, x0 - 30), min(image.shape[1], x0 + 31))
    offsets = (np.arange(5) - 2) / 5
    fine_y = (rows[:, None] + offsets - y).ravel()[:, None]
    fine_x = (columns[:, None] + offsets - x).ravel()
    along = np.cos(theta) * fine_x + np.sin(theta) * fine_y
    across = np.cos(theta) * fine_y - np.sin(theta) * fine_x
    radius2 = along**2 * (1 - ellipticity) + across**2 / (1 - ellipticity)
    profile = (1 + radius2 / alpha**2) ** -beta
    profile = profile.reshape(rows.size, 5, columns.size, 5).mean(axis=(1, 3))
    image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += flux * profile * (beta - 1) / (np.pi * alpha**2)


class Scene:
    """Moffat stars over a wide range of flux, and cosmic rays, with sky, photon and read noise."""

    def __init__(self, fwhm, seed, size=600, stars=250, rays=350):
        rng = np.random.default_rng(seed)
        self.shape = (size, size)
        self.true = np.full(self.shape, SKY)
        self.stars = rng.uniform(3, size - 4, (stars, 2))
        for (y, x), flux in zip(self.stars, 10 ** rng.uniform(2.5, 5.3, stars), strict=True):
            add_moffat(self.true, y, x, flux, fwhm)
        self.rays = cosmic_rays(self.shape, count=rays, rng=rng)
        data = rng.poisson(self.true) + self.rays + rng.normal(0, READ_NOISE, self.shape)
        self.saturated = data >= FULL_WELL
        self.data = np.minimum(data, FULL_WELL).astype(np.float32)
        self.variance = np.maximum(self.data, 0) + np.float32(READ_NOISE**2)
        self.none = np.zeros(self.shape, bool)

    def planes(self):
        return self.data, self.variance, self.none, self.saturated

    def count(self, mask):
        """Counts of bright ray pixels and those found, of found pixels and those true, of star cores and those hit."""
        bright = (self.rays > 5 * np.sqrt(self.true + READ_NOISE**2)) & ~self.saturated
        cores = touched = 0
        for y, x in np.rint(self.stars).astype(int):
            core = np.s_[y - 1 : y + 2, x - 1 : x + 2]
            if not self.saturated[core].any() and not self.rays[core].any():
                cores += 1
                touched += bool(mask[core].any())
        true = mask & (self.rays > 0)
        return np.array([bright.sum(), (mask & bright).sum(), mask.sum(), true.sum(), cores, touched])


def fractions(fwhm, seeds, find):
    """Recall, precision, touched cores over several scenes."""
    scenes = [Scene(fwhm, seed) for seed in seeds]
    bright, recalled, found, true, cores, touched = sum(scene.count(find(scene)) for scene in scenes)
    assert cores > 200 * len(seeds)
    return recalled / bright, true / found, touched / cores


@pytest.mark.parametrize("fwhm", [2.5, 3.0, 4.0])
def test_acceptance_17_rays_found_and_stars_left(fwhm):
    recall, precision, touched = fractions(
        fwhm, (1, 2, 3), lambda scene: lacosmic(*scene.planes(), options=CosmicOptions(fwhm=fwhm)).mask
    )
    assert recall >= 0.98
    assert precision >= 0.90
    assert touched <= 0.01


def test_acceptance_17_undersampled_stars_left():
    recall, precision, touched = fractions(
        1.5, (1, 2, 3), lambda scene: lacosmic(*scene.planes(), options=CosmicOptions(fwhm=1.5)).mask
    )
    assert touched <= 0.01
    assert recall >= 0.85
    assert precision >= 0.90


def elongated(ellipticity, theta, *, beta=2.5, seed=3, fwhm=3.5):
    """400 elongated stars 30 pixels apart with noise and no rays: data, variance, y, x."""
    rng = np.random.default_rng(seed)
    y, x = (15.0 + 30 * np.indices((20, 20)) + rng.uniform(-0.5, 0.5, (2, 20, 20))).reshape(2, 400)
    true = np.full((600, 600), SKY)
    for cy, cx, flux in zip(y, x, 10 ** rng.uniform(3, 5.3, 400), strict=True):
        add_moffat(true, cy, cx, flux, fwhm, beta, ellipticity=ellipticity, theta=theta)
    data = (rng.poisson(true) + rng.normal(0, READ_NOISE, true.shape)).astype(np.float32)
    return data, np.maximum(data, 0) + np.float32(READ_NOISE**2), y, x


def cores_touched(mask, y, x):
    return sum(mask[j - 1 : j + 2, i - 1 : i + 2].any() for j, i in np.rint([y, x]).astype(int).T)


@pytest.mark.parametrize("theta", [0.0, 0.5])
@pytest.mark.parametrize("beta", [2.5, 4.765])
@pytest.mark.parametrize("ellipticity", [0.2, 0.4, 0.46])
def test_acceptance_17_elongated_stars_left(ellipticity, beta, theta):
    data, variance, y, x = elongated(ellipticity, theta, beta=beta)
    none = np.zeros(data.shape, bool)
    made = background(data, variance, none)
    measured = estimate_fwhm(data, made.level, made.variance, none.astype(np.uint32))
    assert measured.minor == pytest.approx(3.5 * np.sqrt(1 - ellipticity), rel=0.04)
    mask = lacosmic(data, variance, none, none, options=CosmicOptions(fwhm=measured.minor)).mask
    assert cores_touched(mask, y, x) <= 4  # of 400
    assert mask.sum() <= 40
    alone = lacosmic(data, variance, none, none, options=CosmicOptions(fwhm=measured.minor, contrast=1e-6)).mask
    assert cores_touched(alone, y, x) <= 4


def test_acceptance_17_contrast_guards_elongated_stars_from_a_wrong_fwhm():
    data, variance, y, x = elongated(0.46, 0.0)
    none = np.zeros(data.shape, bool)
    bound, both = (
        lacosmic(data, variance, none, none, options=CosmicOptions(fwhm=3.5, contrast=contrast)).mask
        for contrast in (1e-6, None)
    )
    assert cores_touched(bound, y, x) > 50
    assert cores_touched(both, y, x) <= 4
    same = lacosmic(data, variance, none, none, options=CosmicOptions(fwhm=3.5, contrast=2.0)).mask
    assert (same == both).all()


def test_acceptance_17_sharper_stars_are_refused_with_the_reason():
    with pytest.raises(OptionError, match=r"fwhm = 1\.0.*cannot be told from cosmic rays"):
        CosmicOptions(fwhm=1.0)


@pytest.mark.parametrize(("profile", "contrast"), [("Kolmogorov", 1e-6), ("Gaussian", 1e-6), ("Airy", None)])
def test_acceptance_17_stars_of_an_independent_simulator(profile, contrast):
    galsim = pytest.importorskip("galsim")
    fwhm, rng = 1.7, np.random.default_rng(7)
    shape = {
        "Kolmogorov": galsim.Kolmogorov(fwhm=fwhm),
        "Gaussian": galsim.Gaussian(fwhm=fwhm),
        "Airy": galsim.Airy(lam_over_diam=fwhm / 1.029, obscuration=0.3),
    }[profile]
    image = galsim.ImageF(420, 420, init_value=SKY)
    for row in range(20):
        for column in range(20):
            y, x = 21 + 20 * row + rng.uniform(-0.5, 0.5), 21 + 20 * column + rng.uniform(-0.5, 0.5)
            star = shape.withFlux(10 ** rng.uniform(2.5, 5))
            stamp = star.drawImage(nx=19, ny=19, scale=1, center=(x, y), dtype=float)
            image[stamp.bounds] += galsim.ImageF(stamp.array.astype(np.float32), bounds=stamp.bounds)
    data = (rng.poisson(image.array) + rng.normal(0, READ_NOISE, image.array.shape)).astype(np.float32)
    none = np.zeros(data.shape, bool)
    options = CosmicOptions(fwhm=fwhm, contrast=contrast)
    mask = lacosmic(data, np.maximum(data, 0) + 64, none, none, options=options).mask
    boxes = mask[10:410, 10:410].reshape(20, 20, 20, 20)
    assert boxes.any(axis=(1, 3)).sum() <= 4  # of 400 stars, any pixel of each: not only the core


@pytest.mark.parametrize("fwhm", [2.5, None])
@pytest.mark.parametrize("edge", [0, 1])
def test_acceptance_17_rays_in_the_outer_two_rows(fwhm, edge):
    rng = np.random.default_rng(5)
    data = rng.normal(SKY, 16, (120, 130)).astype(np.float32)
    hit = np.zeros(data.shape, bool)
    for place in range(8, 110, 12):
        hit[edge, place : place + 3] = True  # along the edge
        hit[-1 - edge, place] = True  # a point
        hit[place : place + 2, edge] = True
        hit[place, -1 - edge] = True
    hit[0, 0] = hit[-1, -1] = edge == 0  # in the corners
    data[hit] += 1500
    none = np.zeros(data.shape, bool)
    mask = lacosmic(data, np.full_like(data, 256), none, none, options=CosmicOptions(fwhm=fwhm)).mask
    found = mask & hit
    corners = np.zeros_like(hit)
    corners[0, 0] = corners[-1, -1] = True
    assert found[hit & ~corners].all()
    assert (mask & ~ndimage.binary_dilation(hit, np.ones((3, 3)))).sum() <= 2
    if fwhm is None:
        assert found[hit].all()


def odd_scene():
    """Stars, rays, masked and saturated pixels, NaN and dead variance, on a frame of odd size."""
    scene = Scene(2.2, 11, size=130, stars=25, rays=60)
    data, variance = scene.data[:121, :127].copy(), scene.variance[:121, :127].copy()
    saturated = scene.saturated[:121, :127].copy()
    add = np.zeros(data.shape)
    add_moffat(add, 60.3, 40.2, 3e6, 2.2)
    data = np.minimum(data + add, FULL_WELL).astype(np.float32)
    saturated |= data >= FULL_WELL
    unusable = np.random.default_rng(12).uniform(size=data.shape) < 0.01
    unusable[:, 77] = True
    data[unusable] = 1e9
    data[30, 30:33] = np.nan
    variance[90:92, 20] = 0.0
    return data, variance, unusable, saturated


@pytest.mark.parametrize(
    "options",
    [
        {"fwhm": 2.2},
        {},
        {"contrast": 1e-6, "fwhm": 2.2},
        {"contrast": 3.0, "fwhm": 2.2, "sigma": 6.0},
        {"iterations": 1, "sigma_fraction": 1.0},
    ],
)
def test_agrees_with_the_plain_reference(options):
    planes = odd_scene()
    rays = lacosmic(*planes, options=CosmicOptions(**options))
    data, variance, unusable, saturated = planes
    protected = protected_stars(data, unusable, saturated)
    expected = reference_cosmic.lacosmic(*planes, protected, options=CosmicOptions(**options))
    assert expected.sum() > 100
    assert (rays.mask == expected).all()
    cleaned, error = reference_cosmic.replaced(data, variance, expected, unusable | saturated)
    np.testing.assert_allclose(rays.cleaned[expected], cleaned[expected], rtol=1e-6)
    np.testing.assert_allclose(rays.variance[expected], error[expected], rtol=1e-5)


@pytest.mark.parametrize("find", [lacosmic, clip_against_median, engine_astroscrappy.detect])
def test_masked_pixels_are_never_reported_and_nothing_else_changes(find):
    data, variance, unusable, saturated = planes = odd_scene()
    before = [plane.copy() for plane in planes]
    rays = find(*planes, options=CosmicOptions(fwhm=2.2))
    assert all(plane.tobytes() == copy.tobytes() for plane, copy in zip(planes, before, strict=True))
    assert rays.mask.sum() > 100
    assert not (rays.mask & (unusable | saturated | ~np.isfinite(data))).any()
    assert (rays.cleaned.dtype, rays.variance.dtype, rays.mask.dtype) == (np.float32, np.float32, bool)
    assert rays.cleaned[~rays.mask].tobytes() == data[~rays.mask].tobytes()
    assert rays.variance[~rays.mask].tobytes() == variance[~rays.mask].tobytes()
    assert np.isfinite(rays.cleaned[rays.mask]).all()
    assert (rays.variance[rays.mask] > 0).all()


@pytest.mark.parametrize("find", [lacosmic, clip_against_median, engine_astroscrappy.detect])
def test_acceptance_18_unit_stays_and_data_agree_with_uncertainty(find):
    scene = Scene(3.0, 4, size=300, stars=60, rays=100)
    data, variance, none, saturated = scene.planes()
    options = CosmicOptions(fwhm=3.0)
    rays = find(data, variance, none, saturated, options=options)
    scaled = find(data * 0.5, variance * 0.25, none, saturated, options=options)
    assert (rays.mask == scaled.mask).all()
    np.testing.assert_allclose(scaled.cleaned, rays.cleaned * 0.5, rtol=1e-6)
    np.testing.assert_allclose(scaled.variance, rays.variance * 0.25, rtol=1e-5)
    blank = rays.mask & (ndimage.maximum_filter(scene.true, 7) < SKY + 1)  # away from stars the truth is smooth
    pull = (rays.cleaned - scene.true)[blank] / np.sqrt(rays.variance[blank])
    assert blank.sum() > 200
    assert pull.std() < 0.6  # a median of twenty pixels with the scatter of one
    assert (rays.cleaned - scene.true)[blank].mean() == pytest.approx(0, abs=4)
    assert 0.8 < np.median(rays.variance[blank]) / (SKY + READ_NOISE**2) < 1.4


def test_replaced_pixels_beside_a_star_carry_its_gradient():
    data = np.full((41, 41), SKY)
    add_moffat(data, 20, 20, 50_000, 3.0)
    variance, mask = (data + 64).astype(np.float32), np.zeros(data.shape, bool)
    mask[20, 20] = mask[2, 2] = True
    cleaned, error = replace_pixels(data.astype(np.float32), variance, mask, np.zeros_like(mask))
    assert abs(cleaned[20, 20] - data[20, 20]) < 3.5 * np.sqrt(error[20, 20])
    assert error[20, 20] > 100 * variance[20, 20]
    assert error[2, 2] == pytest.approx(variance[2, 2], rel=0.05)


def test_a_patch_without_good_neighbours_is_filled_from_farther_away():
    data = np.full((30, 30), 7.0, np.float32)
    mask = np.zeros(data.shape, bool)
    mask[5:25, 5:25] = True
    cleaned, error = replace_pixels(np.where(mask, 1e6, data), np.ones_like(data), mask, np.zeros_like(mask))
    assert (cleaned == 7).all()
    assert (error == 1).all()


@pytest.mark.parametrize("find", [lacosmic, clip_against_median, engine_astroscrappy.detect])
def test_saturated_star_and_bleed_trail_are_left_alone(find):
    rng = np.random.default_rng(3)
    true = np.full((160, 160), SKY)
    add_moffat(true, 80, 80, 8e6, 3.0)
    true[30:130, 80] += 3e5  # bleed trail
    true[29, 80] = true[130, 80] = 20_000  # its half-filled ends
    data = np.minimum(rng.poisson(true) + rng.normal(0, READ_NOISE, true.shape), FULL_WELL)
    data[20, 20:24] += 3000
    data[140, 30] = FULL_WELL  # a ray that saturates
    data[140, 31:34] += 9000
    data = data.astype(np.float32)
    saturated = data >= FULL_WELL
    none = np.zeros(data.shape, bool)
    mask = find(data, np.maximum(data, 0) + 64, none, saturated, options=CosmicOptions(fwhm=3.0)).mask
    assert mask[20, 20:24].all()
    assert mask[140, 32:34].all()
    assert not mask[25:135, 74:87].any()


def test_pure_noise_gives_no_rays():
    rng = np.random.default_rng(9)
    data = (rng.poisson(SKY, (1000, 1000)) + rng.normal(0, READ_NOISE, (1000, 1000))).astype(np.float32)
    none = np.zeros(data.shape, bool)
    for options in (CosmicOptions(fwhm=3.0), CosmicOptions()):
        assert lacosmic(data, np.maximum(data, 0) + 64, none, none, options=options).mask.mean() < 5e-5


def test_own_poisson_variance_does_not_hide_a_ray():
    data = np.random.default_rng(2).normal(10, 3, (60, 60)).astype(np.float32)
    data[30, 30] += 30  # ten times the noise of the sky, five of its own
    none = np.zeros(data.shape, bool)
    variance = np.where(data > 25, data, 9).astype(np.float32)
    assert lacosmic(data, variance, none, none, options=CosmicOptions(sigma=7.0)).mask[30, 30]


def test_later_iterations_find_more():
    scene = Scene(3.0, 6, size=400, stars=50, rays=250)
    once, all_ = (lacosmic(*scene.planes(), options=CosmicOptions(iterations=n)) for n in (1, 4))
    assert once.iterations == 1
    assert all_.iterations > 1
    assert (once.mask <= all_.mask).all()
    assert all_.mask.sum() > once.mask.sum()


def test_acceptance_34_threads_and_bands_change_no_bit(monkeypatch):
    def bands(rows, work, band=0, *, size):
        jit.over_rows(rows, work, size)

    scene = Scene(2.5, 8, size=300, stars=80, rays=120)
    results = []
    for count, band in ((1, 64), (2, 64), (2, 7)):
        for module in (cosmic, cosmic_common):
            monkeypatch.setattr(module, "over_rows", functools.partial(bands, size=band))
        jit.set_threads(count)
        try:
            results.append(lacosmic(*scene.planes(), options=CosmicOptions(fwhm=2.5, contrast=1.0)))
        finally:
            jit.set_threads(None)
    assert results[0].mask.sum() > 300
    for other in results[1:]:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(results[0][:3], other[:3], strict=True))


@pytest.mark.parametrize(
    ("find", "shape"),
    [(find, shape) for find in (lacosmic, clip_against_median) for shape in [(1, 1), (1, 9), (3, 2), (12, 12)]]
    + [(engine_astroscrappy.detect, (7, 9))],
)
def test_small_and_empty_frames(find, shape):
    data, none = np.full(shape, 5.0, np.float32), np.zeros(shape, bool)
    for unusable in (none, ~none):
        rays = find(data, np.ones_like(data), unusable, none)
        assert not rays.mask.any()
        assert (rays.cleaned == data).all()


@pytest.mark.parametrize("find", [lacosmic, clip_against_median, engine_astroscrappy.detect])
def test_planes_of_different_shapes_are_refused(find):
    plane, none = np.ones((5, 5), np.float32), np.zeros((5, 5), bool)
    with pytest.raises(OptionError, match="one shape"):
        find(plane, plane[:4], none, none)


def test_astroscrappy_engine_refuses_frames_it_would_write_beyond():
    plane, none = np.ones((1, 9), np.float32), np.zeros((1, 9), bool)
    with pytest.raises(OptionError, match=r"at least 7 × 7"):
        engine_astroscrappy.detect(plane, plane, none, none)


@pytest.mark.parametrize(
    "option", [{"sigma": 0}, {"sigma_fraction": 1.5}, {"contrast": -1.0}, {"iterations": 0}, {"sigma": float("nan")}]
)
def test_impossible_options_are_refused(option):
    with pytest.raises(OptionError, match=next(iter(option))):
        CosmicOptions(**option)


def test_astroscrappy_engine_recall_and_cores():
    recall, precision, touched = fractions(3.0, (1, 2), lambda scene: engine_astroscrappy.detect(*scene.planes()).mask)
    assert recall >= 0.95
    assert precision >= 0.90
    assert touched <= 0.015


def test_median_fallback_recall_and_cores():
    recall, precision, touched = fractions(
        3.0, (1, 2), lambda scene: clip_against_median(*scene.planes(), options=CosmicOptions(fwhm=3.0)).mask
    )
    assert recall >= 0.95
    assert precision >= 0.90
    assert touched <= 0.01


def test_median_fallback_misses_rays_among_undersampled_stars():
    recall, _, touched = fractions(
        1.5, (1,), lambda scene: clip_against_median(*scene.planes(), options=CosmicOptions(fwhm=1.5)).mask
    )
    assert touched <= 0.01
    assert recall < 0.6  # as documented
