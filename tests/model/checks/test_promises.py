"""What a night and a frame promise, through the public classes alone: gains, detections, aperture errors, depth."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.special import ndtr

import larun
from larun.simulate import render
from tests.model.checks.rawnights import night

WITHOUT = ("bias", "dark", "flat")
SCIENCE = {"FILTER": "V", "EXPTIME": 60.0, "IMAGETYP": "object"}
FWHM = 3.0


def raw_of(electrons, *, gain=1.6, read_noise=6.0, header=SCIENCE):
    """A raw frame of whole counts above a bias of zero."""
    counts = np.round(electrons / gain)
    return larun.Frame.from_arrays(counts, gain=gain, read_noise=read_noise, saturation=6e4, header=header)


def exposed(light, rng, read_noise=6.0):
    """Photons of this light, and readout."""
    return rng.poisson(light) + read_noise * rng.standard_normal(np.shape(light))


# -- the gain ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Check a night of a camera of gain 1.6, told a gain: the verdict, and the master flat."""
    folder = night(tmp_path_factory.mktemp("gain") / "raw")

    def check(gain):
        out = tmp_path_factory.mktemp("out")
        (found,) = larun.Night(folder, given={"gain": gain}).check(out=out).of("gain")
        (flat,) = larun.Masters.read(out / "masters").of("flat")
        return found, flat

    return check, *check(1.6)


@pytest.mark.parametrize("claimed", [0.8, 3.2])
def test_acceptance_7_a_night_names_a_gain_that_is_wrong_by_two(checked, claimed):
    """What the master measures is recorded, and it is as good as that of the right gain."""
    check, right, flat = checked
    wrong, other = check(claimed)
    assert (right.status, wrong.status) == ("good", "bad")
    assert wrong.value == right.value == pytest.approx(1.6, rel=0.03)
    assert wrong.expected == claimed
    assert f"gain = {claimed:g}" in wrong.meaning
    assert f"photons of 4 flats say {wrong.value:.4g}" in wrong.meaning
    assert wrong.fix == "--set detector.gain=measured"
    # the variance of counts times the gain twice, over counts times the gain
    assert other.provenance.step.fitted["inflation"] == pytest.approx(claimed / 1.6, rel=0.05)
    assert flat.provenance.step.fitted["inflation"] == pytest.approx(1, abs=0.05)
    good = ((flat.flags | other.flags) == 0)[:, 1:] & ((flat.flags | other.flags) == 0)[:, :-1]
    rough, its = (float(np.var(np.diff(one.data, axis=1)[good])) for one in (flat, other))
    assert rough / its > 0.95


# -- five σ are five σ -------------------------------------------------------------------------------------------------


def test_acceptance_22_detections_of_pure_noise_are_as_many_as_the_filter_has_maxima():
    """8 Mpix of sky from raw counts; the same pixels by scipy, in units of the σ that was put in."""
    profile = np.diff(ndtr((np.arange(-6, 8) - 0.5) / (FWHM / np.sqrt(8 * np.log(2)))))
    rng = np.random.default_rng(22)
    thresholds = np.array([4.0, 4.5, 5.0])
    found, expected = np.zeros((2, 3), int)
    for _ in range(2):
        frame = raw_of(exposed(np.full((2048, 2048), 200.0), rng)).calibrate(without=WITHOUT)
        found += [len(frame.detect(threshold=threshold, fwhm=FWHM)) for threshold in thresholds]
        filtered = frame.data - np.float32(200.0)
        for axis in (0, 1):
            filtered = ndimage.convolve1d(filtered, profile, axis=axis)
        filtered /= np.sqrt(200.0 + 6.0**2 + 1.6**2 / 12) * np.sum(profile**2)
        maxima = filtered[filtered == ndimage.maximum_filter(filtered, 3)]
        expected += (maxima[:, None] > thresholds).sum(axis=0)
    assert expected[0] > 100
    assert (np.abs(found - expected) <= 0.1 * expected + 2).all(), (found, expected)


# -- aperture errors ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flat_and_bias():
    """Masters of so many photons and frames that their noise does not count."""
    rng = np.random.default_rng(4)
    response = 1 + 0.2 * ndimage.gaussian_filter(rng.standard_normal((700, 700)), 1)
    header = {"FILTER": "V", "EXPTIME": 5.0}
    biases = [raw_of(exposed(np.zeros((700, 700)), rng) + 480) for _ in range(30)]
    flats = [raw_of(exposed(7e4 * response, rng) + 480, header=header) for _ in range(20)]
    bias = larun.MasterBias.combine(biases)
    return response, larun.Masters([bias, larun.MasterFlat.combine(flats, bias=bias)])


@pytest.mark.filterwarnings("ignore:.*too few stars to measure their size")
@pytest.mark.parametrize("flux", [0.0, 8000.0])
def test_acceptance_23_aperture_errors_are_the_scatter_on_calibrated_frames(flat_and_bias, flux):
    """3072 places of a sky without and with stars; own error of the ratio 1.3 %."""
    response, masters = flat_and_bias
    rng = np.random.default_rng(23)
    y, x = (axis.ravel() for axis in np.mgrid[20:680:32j, 20:680:32j])
    pulls = []
    for _ in range(3):
        places = np.column_stack([x, y]) + rng.uniform(-0.5, 0.5, (len(x), 2))
        light = render((700, 700), *places.T, np.full(len(x), flux), fwhm=FWHM, beta=None) + 120.0
        frame = raw_of(exposed(light * response, rng) + 480, header=SCIENCE).calibrate(masters, without="dark")
        options = {"radii": (1.5, 2.5, 4.0, 6.0), "unit": "pixel", "annulus": (7.0, 10.0)}
        found = frame.photometer(places, **options)
        truth = frame.with_planes(data=light.astype(np.float32)).photometer(places, **options)
        columns = [f"aperture_flux{{}}_{n}" for n in range(1, 5)]
        away = [found[c.format("")].value - truth[c.format("")].value for c in columns]
        pulls.append([a / found[c.format("_error")].value for a, c in zip(away, columns, strict=True)])
    pulls = np.concatenate(pulls, axis=1)
    assert np.isfinite(pulls).all()
    np.testing.assert_allclose(pulls.std(axis=1), 1, atol=0.05)
    assert (np.abs(pulls.mean(axis=1)) < 0.15).all()


# -- depth -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [None, 3.0])
def test_acceptance_32_the_limiting_magnitude_is_where_half_of_the_stars_are_found(beta):
    """Stars put into the counts of other exposures of the same sky; own error of either magnitude 0.03."""
    rng = np.random.default_rng(32)
    size, spacing = 560, 28
    y, x = (axis.ravel() for axis in np.mgrid[20 : size - 20 : spacing, 20 : size - 20 : spacing].astype(float))

    def taken(flux):
        at = x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, x.size)
        light = render((size, size), *at, flux, fwhm=FWHM, beta=beta) + 200.0
        return np.column_stack(at), raw_of(exposed(light, rng)).calibrate(without=WITHOUT)

    bright = np.where(np.arange(x.size) % 9 == 0, 2e4, 0.0)
    reports = [taken(bright)[1].check() for _ in range(3)]
    (limits,) = zip(*(report.of("limiting magnitude") for report in reports), strict=True)
    flux, seen = [], []
    for _ in range(3):
        faint = 380 * 10 ** (0.4 * rng.uniform(-0.9, 0.9, x.size))
        places, frame = taken(faint + bright)
        table = frame.detect().table
        distance, _ = cKDTree(np.column_stack([table["x"].value, table["y"].value])).query(places)
        flux.append(faint[bright == 0])
        seen.append((distance < 0.8 * FWHM)[bright == 0])
    flux, seen = np.concatenate(flux), np.concatenate(seen)

    def unlikely(parameters):
        share = np.clip(ndtr((flux - parameters[0]) / parameters[1]), 1e-9, 1 - 1e-9)
        return -np.sum(np.where(seen, np.log(share), np.log1p(-share)))

    half = -2.5 * np.log10(minimize(unlikely, [380.0, 76.0], method="Nelder-Mead").x[0])
    assert np.mean([limit.value for limit in limits]) == pytest.approx(half, abs=0.1)
    assert np.mean([limit.expected for limit in limits]) == pytest.approx(half, abs=0.1)
    told = [report.of("completeness")[0].value for report in reports]
    assert np.mean(told) == pytest.approx(half, abs=0.1)
