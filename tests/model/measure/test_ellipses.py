"""Elliptical and Kron photometry of a catalogue, on simulated stars and galaxies and against sep."""

import numpy as np
import pytest

import larun
from larun.errors import OptionError
from larun.model.measure.ellipses import KronOptions
from larun.provenance import predict
from tests.algorithms.star_fields import draw

SIZE = 420


def galaxies(rng, count=36):
    """Elliptical exponential discs on a grid, convolved with nothing but the pixel, and their truth."""
    y, x = np.mgrid[:SIZE, :SIZE]
    image = np.zeros((SIZE, SIZE))
    side = int(np.sqrt(count))
    step = SIZE / side
    truth = []
    for index in range(count):
        x0, y0 = np.array([index % side + 0.5, index // side + 0.5]) * step + rng.uniform(-0.5, 0.5, 2)
        flux, scale, ratio = rng.uniform((3e4, 1.6, 0.5), (1e5, 3.0, 1.0))
        angle = rng.uniform(0, np.pi)
        u = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
        v = (y - y0) * np.cos(angle) - (x - x0) * np.sin(angle)
        image += flux / (2 * np.pi * scale**2 * ratio) * np.exp(-np.hypot(u, v / ratio) / scale)
        truth.append((x0, y0, flux, ratio, np.degrees(angle)))
    return image, np.array(truth)


@pytest.fixture(scope="module")
def field():
    rng = np.random.default_rng(31)
    light, truth = galaxies(rng)
    data = rng.poisson(light + 50) + rng.normal(0, 3, light.shape)
    frame = larun.Frame.from_arrays(data, variance=light + 59, unit="electron")
    return frame, truth


@pytest.fixture(scope="module")
def catalog(field):
    return field[0].detect(method="sep", fwhm=3.0)


def paired(catalog, truth):
    found = catalog.match(truth[:, :2], radius=1.5)
    assert len(found) == len(truth)
    return found.catalog, truth[found.other_index]


def test_kron_apertures_hold_nearly_all_light_of_discs(catalog, field):
    """Bertin & Arnouts 1996: 94 % of a galaxy; an exponential disc not convolved has a little more."""
    measured, truth = paired(catalog.photometer(aperture="kron"), field[1])
    share = measured["kron_flux"].value / truth[:, 2]
    assert 0.92 < np.median(share) < 1.0
    assert np.std(share) < 0.03
    assert (measured["kron_radius"] > 1).all()
    assert (measured["kron_flux_error"].value > 0).all()
    assert (measured["kron_area_fraction"] > 0.99).all()
    turned = (measured["ellipse_theta"].value - truth[:, 4] + 90) % 180 - 90
    flat = truth[:, 3] < 0.8
    assert np.median(np.abs(turned[flat])) < 3
    np.testing.assert_allclose(measured["semi_minor"] / measured["semi_major"], truth[:, 3], atol=0.12)


def test_kron_fluxes_agree_with_those_of_sep(catalog, field):
    """The same ellipses given to sep: radius and sum to the rounding of float32."""
    import sep

    frame, truth = field
    measured, _ = paired(catalog.photometer(aperture="kron"), truth)
    data = np.array(frame.data - frame.background().level, np.float32)
    x, y, a, b = (np.array(measured[name].value, float) for name in ("x", "y", "semi_major", "semi_minor"))
    theta = np.radians(measured["ellipse_theta"].value)
    radius, _ = sep.kron_radius(data, x, y, a, b, theta, 6.0)
    np.testing.assert_allclose(measured["kron_radius"], radius, rtol=0.02)  # sep counts pixels of neighbours
    ours = np.asarray(measured["kron_radius"])
    flux, error, _ = sep.sum_ellipse(
        data, x, y, a, b, theta, np.maximum(2.5 * ours, 3.5), err=np.sqrt(frame.variance), subpix=0
    )
    np.testing.assert_allclose(measured["kron_flux"].value, flux, rtol=2e-5)
    # sep weighs the variance of a pixel with its share, not with the square
    assert (measured["kron_flux_error"].value <= error * (1 + 1e-6)).all()
    np.testing.assert_allclose(measured["kron_flux_error"].value, error, rtol=0.03)


def test_kron_errors_are_those_of_repeated_noise(field):
    light = field[1]
    rng = np.random.default_rng(33)
    smooth = galaxies(np.random.default_rng(31))[0]
    first = None
    pulls = []
    for _ in range(12):
        data = rng.poisson(smooth + 50) + rng.normal(0, 3, smooth.shape)
        frame = larun.Frame.from_arrays(data, variance=smooth + 59, unit="electron")
        if first is None:
            first = frame.detect(method="sep", fwhm=3.0)
        # one set of ellipses: the noise of fixed apertures
        measured, _ = paired(first._replace(image=frame).photometer(aperture="elliptical", radii=(1.5,)), light)
        pulls.append((measured["ellipse_flux_1"].value, measured["ellipse_flux_error_1"].value))
    flux, error = np.array(pulls).transpose(1, 0, 2)
    assert np.sqrt(((flux - flux.mean(0)) ** 2).sum() / 11 / (error**2).mean(0).sum()) == pytest.approx(1, abs=0.12)


def test_ellipses_of_round_stars_are_circles(rng):
    grid = np.arange(20, 200, 30.0)
    x, y = (axis.ravel() for axis in np.meshgrid(grid, grid))
    light = 100 + draw((220, 220), x, y, np.full(len(x), 2e4), 3.0, np.inf)
    frame = larun.Frame.from_arrays(rng.poisson(light).astype(float), variance=light, unit="electron")
    catalog = frame.detect(fwhm=3.0)
    round_ = catalog.photometer((4.0, 6.0), unit="pixel", sky="background")
    both = round_.photometer((4.0, 6.0), unit="pixel", aperture="elliptical")
    assert set(round_.columns) < set(both.columns)
    np.testing.assert_array_equal(both["aperture_flux_1"], round_["aperture_flux_1"])
    np.testing.assert_allclose(both["ellipse_flux_2"].value, both["aperture_flux_2"].value, rtol=0.003)
    np.testing.assert_allclose(both["ellipse_area_fraction_1"], 1)
    # radii in FWHM: a Gaussian holds 1 − 2^(−4 r²) within r FWHM; light spread over its pixels a little less
    share = catalog.photometer((0.5, 1.0), aperture="elliptical")
    flux = np.median(share["ellipse_flux_1"].value), np.median(share["ellipse_flux_2"].value)
    assert flux[0] / 2e4 == pytest.approx(0.5, abs=0.01)
    assert flux[1] / 2e4 == pytest.approx(1 - 2**-4, abs=0.02)
    fewer = both.photometer((5.0,), unit="pixel", aperture="elliptical")
    assert "ellipse_flux_2" not in fewer.columns
    assert fewer.meta["elliptical_radii"] == [5.0]


def test_a_catalogue_with_ellipses_goes_through_files(catalog, tmp_path):
    measured = catalog.photometer().photometer(aperture="kron").photometer((1.0, 2.0), aperture="elliptical")
    for name in ("c.ecsv", "c.fits"):
        assert larun.SourceCatalog.read(measured.write(tmp_path / name)).identical(measured)
    table = measured.table
    assert all(table[name].info.description for name in measured.columns)
    assert "1.000 FWHM of the source" in table["ellipse_flux_1"].info.description
    assert table["kron_flux"].unit == "electron"
    assert measured.meta["kron_factor"] == 2.5


def test_records_of_circles_are_as_ever_and_kron_is_recorded_complete(catalog, field):
    frame = field[0]
    plain = catalog.photometer()
    assert plain.provenance.step.parameters == {
        "radii": [1, 1.5, 2.5, 4],
        "unit": "fwhm",
        "sky": "annulus",
        "annulus": None,
    }
    assert plain.provenance.id == catalog.photometer((1.0, 1.5, 2.5, 4.0), sky="annulus").provenance.id
    kron = catalog.photometer(aperture="kron", options={"factor": 2.0})
    assert kron.provenance.id == catalog.photometer(aperture="kron", options=KronOptions(factor=2.0)).provenance.id
    parameters = kron.provenance.step.parameters
    assert parameters["options"] == {"type": "KronOptions", "factor": 2, "minimum": 3.5, "reach": 6}
    assert parameters["sky"] == "background"
    step = predict("photometer", frame, aperture="kron", options={"factor": 2.0})
    assert step.parameters == parameters


def test_options_change_the_aperture(catalog):
    small, large = (catalog.photometer(aperture="kron", options={"factor": f}) for f in (1.5, 3.0))
    assert (small["kron_flux"] < large["kron_flux"]).mean() > 0.9
    np.testing.assert_array_equal(small["kron_radius"], large["kron_radius"])
    least = catalog.photometer(aperture="kron", options={"minimum": 20.0})
    assert (least["kron_flux_error"] > 1.3 * large["kron_flux_error"]).all()
    near = catalog.photometer(aperture="kron", options={"reach": 3.0})
    assert (near["kron_radius"] < small["kron_radius"]).all()


def test_arguments_that_do_not_belong(catalog):
    for arguments, says in (
        ({"aperture": "square"}, "'circular', 'elliptical', 'kron'"),
        ({"options": {"factor": 2}}, "only 'kron' has them"),
        ({"aperture": "kron", "options": {"size": 2}}, "kron has no size; it has factor, minimum, reach"),
        ({"aperture": "kron", "options": {"factor": 0}}, "factor = 0"),
        ({"aperture": "kron", "radii": (3.0,)}, "finds its own size"),
        ({"aperture": "elliptical", "radii": (-3.0,)}, "positive"),
    ):
        with pytest.raises(OptionError, match=says):
            catalog.photometer(**arguments)


@pytest.mark.filterwarnings("ignore:.*too few stars to measure their size")
def test_sources_without_a_shape_or_a_pixel(field):
    """A source that no size is known of gets the circle of a star; without any source there are empty columns."""
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, (60, 60))
    noise[30, 30] += 40
    frame = larun.Frame.from_arrays(noise, unit="adu")
    found = frame.detect(method="peaks", fwhm=3.0).photometer(aperture="kron")
    assert len(found) == 1
    assert np.isnan(found["fwhm"].value[0])
    assert found["semi_major"].value[0] == pytest.approx(np.hypot(3.0 / 2.3548, np.sqrt(1 / 12)), rel=1e-3)
    assert np.isfinite(found["kron_flux"].value[0])
    assert np.isnan(found["kron_flux_error"].value[0])
    empty = field[0].detect(threshold=1e6, fwhm=3.0)
    assert len(empty.photometer(aperture="kron")["kron_flux"]) == 0
    assert len(empty.photometer(aperture="elliptical")["ellipse_flux_1"]) == 0
