"""Stars and galaxies: simulated by GalSim, and a real field whose stars are known."""

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

import larun
from larun import flags as fl
from larun.errors import CatalogError, LarunWarning
from tests.conftest import real_data

STEP, SIDE = 40, 18


@pytest.fixture(scope="module")
def field():
    """324 sources on a grid: two stars of three, the others Sérsic galaxies under the same Moffat seeing."""
    import galsim

    rng = np.random.default_rng(51)
    psf = galsim.Moffat(beta=3.5, fwhm=3.0)
    light = np.zeros((SIDE * STEP, SIDE * STEP))
    truth = []
    for index in range(SIDE**2):
        x, y = np.array([index % SIDE, index // SIDE]) * STEP + STEP / 2 + rng.uniform(-0.5, 0.5, 2)
        flux, star = 10 ** rng.uniform(3.4, 5), index % 3 != 0
        shape = psf
        if not star:
            disc = galsim.Sersic(n=rng.choice([1.0, 2.5, 4.0]), half_light_radius=rng.uniform(1.2, 2.5))
            shape = galsim.Convolve(psf, disc.shear(g1=rng.uniform(-0.3, 0.3), g2=rng.uniform(-0.3, 0.3)))
        x0, y0 = round(x), round(y)
        stamp = shape.withFlux(flux).drawImage(nx=39, ny=39, scale=1.0, offset=(x - x0, y - y0)).array
        light[y0 - 19 : y0 + 20, x0 - 19 : x0 + 20] += stamp
        truth.append((x, y, flux, star))
    data = rng.poisson(np.maximum(light, 0) + 100) + rng.normal(0, 5, light.shape)
    frame = larun.Frame.from_arrays(data, variance=light + 125, unit="electron")
    return frame, np.array(truth)


@pytest.fixture(scope="module")
def classified(field):
    frame, truth = field
    found = frame.detect().morphology().match(truth[:, :2], radius=1.5)
    assert len(found) > 0.97 * len(truth)
    return found.catalog, truth[found.other_index]


def test_stars_scatter_around_zero_with_one(classified):
    catalog, truth = classified
    stars = catalog["size_excess"][truth[:, 3] == 1]
    assert np.median(stars) == pytest.approx(0, abs=0.25)
    assert 1.4826 * np.median(np.abs(stars - np.median(stars))) == pytest.approx(1, abs=0.2)
    assert (stars < 3).mean() > 0.97
    # uniform, as the chance of being at least as extended must be: a tenth of the stars in each tenth
    counts = np.histogram(catalog["star_p_value"][truth[:, 3] == 1], bins=5, range=(0, 1))[0]
    assert (np.abs(counts / counts.sum() - 0.2) < 0.1).all()


def test_galaxies_are_extended(classified):
    catalog, truth = classified
    excess, galaxy, bright = catalog["size_excess"], truth[:, 3] == 0, truth[:, 2] > 1e4
    found = (excess[galaxy & bright] > 3).mean()
    pure = (truth[:, 3][bright & (excess < 3)] == 1).mean()
    print(f"galaxies found {found:.3f}; of what is called a star {pure:.3f} are")
    assert found > 0.97
    assert pure > 0.97
    assert (excess[galaxy & ~bright] > 3).mean() > 0.7
    assert (catalog["star_p_value"][galaxy & bright] < 0.01).mean() > 0.95


def test_windowed_centroids_are_unbiased_and_their_errors_right(classified):
    catalog, truth = classified
    off = [catalog[f"{axis}_win"].value - truth[:, k] for k, axis in enumerate("xy")]
    pulls = np.concatenate([off[k] / catalog[f"{axis}_win_error"].value for k, axis in enumerate("xy")])
    assert np.median(pulls) == pytest.approx(0, abs=0.2)
    assert 1.4826 * np.median(np.abs(pulls)) == pytest.approx(1, abs=0.12)


def test_the_locus_is_in_meta_and_everything_goes_through_files(field, tmp_path):
    frame, _ = field
    catalog = frame.detect().morphology()
    assert catalog.meta["star_locus_stars"] > 100
    assert 0.001 <= catalog.meta["star_locus_scatter"] < 0.03
    for name in ("c.ecsv", "c.fits"):
        assert larun.SourceCatalog.read(catalog.write(tmp_path / name)).identical(catalog)
    assert catalog.provenance.step.operation == "morphology"
    assert catalog.identical(frame.detect().morphology())
    assert catalog.select("size_excess > 3 and snr > 20").provenance.has("morphology")
    table = catalog.table
    assert all(table[name].info.description for name in catalog.columns)


def test_saturated_sources_are_not_judged(field):
    frame, truth = field
    flags = np.zeros(frame.shape, np.uint32)
    x, y = np.rint(truth[1, :2]).astype(int)
    flags[y - 1 : y + 2, x - 1 : x + 2] = fl.SATURATED
    marked = larun.Frame.from_arrays(frame.data, variance=frame.variance, flags=flags, unit="electron")
    found = marked.detect(fwhm=3.0).morphology().match(truth[1:2, :2], radius=2.0)
    assert np.isnan(found.catalog["size_excess"][0])
    assert np.isfinite(found.catalog["x_win"].value[0])


def test_too_few_stars_are_told(rng):
    frame = larun.Frame.from_arrays(rng.normal(0, 1, (60, 60)) + 60 * np.eye(60), variance=np.ones((60, 60)))
    with pytest.warns(LarunWarning, match="too few bright sources agree"):
        found = frame.detect(fwhm=2.0).select("id <= 2").morphology()
    assert np.isnan(found["size_excess"]).all()
    assert found.meta["star_locus"] is None
    empty = frame.detect(fwhm=2.0, threshold=1e5).morphology()
    assert len(empty["x_win"]) == 0
    with pytest.raises(CatalogError, match="attach"):
        empty._replace(image=None).morphology()


@pytest.mark.parametrize("epoch", ["004192-r4-0300", "006377-r4-0399"])
def test_stars_of_a_real_field(epoch):
    """The reference catalogue lists stars alone (starnotgal = 1): what it lacks with r < 19 is something else."""
    folder = real_data("sdss")
    stars = Table.read(folder / "reference-catalog.fits.gz")
    assert set(np.unique(stars["starnotgal"])) == {1}
    raw = larun.Frame.read(folder / f"fpC-{epoch}.fit.gz")
    frame = larun.Frame.from_arrays(raw.data - 1000, gain=4.7, read_noise=5.0, header=raw.header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        catalog = frame.detect().morphology().photometer(aperture="kron")
    pairs = catalog.match(stars, radius=1.5 * u.arcsec)  # stored with negative right ascension
    assert len(pairs) > 80
    zero_point = np.nanmedian(np.asarray(pairs.other["r"]) - pairs.catalog["kron_mag"].value)
    star = np.zeros(len(catalog), bool)
    star[pairs.index] = True
    excess = np.asarray(catalog["size_excess"])
    bright = (catalog["kron_mag"].value + zero_point < 19) & np.isfinite(excess)
    called = excess < 3
    complete, pure = called[bright & star].mean(), star[bright & called].mean()
    print(
        f"{epoch}: {(bright & star).sum()} stars and {(bright & ~star).sum()} others with r < 19: "
        f"completeness {complete:.3f}, purity {pure:.3f}"
    )
    assert (bright & star).sum() > 35
    assert (bright & ~star).sum() > 15
    assert complete > 0.85
    assert pure > 0.95
    assert (excess[bright & ~star] > 3).mean() > 0.9


def test_places_that_were_given_are_judged_too(field):
    """Forced photometry has no size, S/N or flags of a detection: what is needed is measured."""
    frame, truth = field
    forced = frame.photometer(truth[:, :2], (4.0,), unit="pixel").morphology().photometer(aperture="kron")
    excess = forced["size_excess"]
    assert (excess[truth[:, 3] == 1] < 3.5).mean() > 0.95
    assert (excess[(truth[:, 3] == 0) & (truth[:, 2] > 1e4)] > 3).mean() > 0.95
    detected = frame.detect().photometer(aperture="kron").match(truth[:, :2], radius=1.0)
    ratio = forced["kron_flux"].value[detected.other_index] / detected.catalog["kron_flux"].value
    assert np.median(ratio) == pytest.approx(1, abs=0.01)
    assert 1.4826 * np.median(np.abs(ratio - 1)) < 0.02
