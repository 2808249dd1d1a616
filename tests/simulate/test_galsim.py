"""A night that GalSim rendered, noise and all: what larun makes of it is the flux that GalSim put in.

Nothing of larun's simulator takes part. The pixels, the noise and the camera are GalSim's and numpy's.
"""

import numpy as np
import pytest
from astropy.io import fits

import larun

SHAPE = (300, 320)
GAIN, READ_NOISE, LEVEL, SKY = 1.6, 6.0, 900.0, 300.0


@pytest.fixture(scope="module")
def galsim():
    return pytest.importorskip("galsim")


def response():
    v, u = np.linspace(-1, 1, SHAPE[0])[:, None], np.linspace(-1, 1, SHAPE[1])[None, :]
    made = 1 - 0.1 * (u**2 + v**2)
    made[:, 160:] *= 0.97
    return made / made.mean()


def raw_counts(galsim, electrons, generator):
    """GalSim's noise on expected electrons, with overscan columns, as whole counts."""
    ny, nx = SHAPE
    wide = np.zeros((ny, nx + 24))
    wide[:, :nx] = electrons / GAIN
    image = galsim.Image(wide, dtype=float)
    image.addNoise(galsim.CCDNoise(generator, gain=GAIN, read_noise=READ_NOISE))
    return np.rint(image.array + LEVEL).astype(np.uint16)


def write(path, counts, kind, exposure):
    cards = {"IMAGETYP": kind, "EXPTIME": exposure, "GAIN": GAIN, "RDNOISE": READ_NOISE, "SATURATE": 65535}
    sections = {"DATASEC": "[1:320,1:300]", "BIASSEC": "[321:344,1:300]"}
    fits.PrimaryHDU(counts, fits.Header(cards | sections | {"FILTER": "V", "INSTRUME": "GalSim"})).writeto(path)


@pytest.fixture(scope="module", params=["round", "elliptical"])
def night(galsim, request, tmp_path_factory):
    """Folder, star positions and fluxes, and the profile: a frame of isolated stars, and its calibration frames."""
    folder, generator = tmp_path_factory.mktemp(request.param), galsim.BaseDeviate(20260314)
    rng = np.random.default_rng(3)
    fine = galsim.GSParams(folding_threshold=1e-4, maxk_threshold=1e-4, maximum_fft_size=20000)
    profile = galsim.Moffat(beta=3.0, fwhm=3.0, gsparams=fine)
    if request.param == "elliptical":
        profile = profile.shear(g1=0.08, g2=-0.05)
    grid = np.array([(x, y) for y in range(25, 290, 36) for x in range(25, 310, 36)], float)
    x, y = (grid + rng.uniform(-4, 4, grid.shape)).T
    flux = 10 ** rng.uniform(4.3, 5.3, len(x))
    scene = galsim.Image(SHAPE[1], SHAPE[0], dtype=float, xmin=0, ymin=0)
    for a, b, light in zip(x, y, flux, strict=True):
        stamp = (profile * light).drawImage(nx=101, ny=101, scale=1, center=galsim.PositionD(a, b), dtype=float)
        overlap = stamp.bounds & scene.bounds
        scene[overlap] += stamp[overlap]
    for n in range(5):
        write(folder / f"bias{n}.fits", raw_counts(galsim, np.zeros(SHAPE), generator), "bias", 0.0)
        write(folder / f"flat{n}.fits", raw_counts(galsim, 40000 * response(), generator), "flat", 1.0)
    light = (scene.array + SKY) * response()
    write(folder / "science.fits", raw_counts(galsim, light, generator), "object", 60.0)
    return folder, x, y, flux, profile


def test_fluxes_come_back(galsim, night):
    folder, x, y, flux, profile = night
    masters = larun.Night(folder).masters()
    frame = larun.Frame.read(folder / "science.fits").calibrate(masters, without=("dark",))
    assert np.quantile(frame.data, 0.2) == pytest.approx(SKY - 0.84 * np.sqrt(SKY + READ_NOISE**2), rel=0.02)
    radius = 6.0
    catalog = frame.photometer(np.column_stack([x, y]), radii=(radius,), unit="pixel", annulus=(11.0, 16.0))
    # GalSim's own sum over an aperture, and over the annulus, whose wings larun takes for sky
    blurred = galsim.Convolve(profile, galsim.Pixel(1.0))
    fine = blurred.drawImage(nx=841, ny=841, scale=1 / 20, dtype=float, method="no_pixel").array
    v, u = (np.indices(fine.shape) - 420) / 20
    r = np.hypot(u, v)
    inside = fine[r < radius].sum()
    wing = fine[(r >= 11) & (r < 16)].sum() / (np.pi * (16**2 - 11**2))
    level = np.median(response())  # a master flat is 1 in the median
    expected = level * flux * (inside - wing * np.pi * radius**2)
    ratio = catalog["aperture_flux_1"].value / expected
    error = catalog["aperture_flux_error_1"].value / expected
    good = catalog["aperture_flags_1"] == 0
    assert good.sum() > 60
    mean = np.average(ratio[good], weights=error[good] ** -2)
    assert mean == pytest.approx(1, abs=0.002)  # own error 6e-4
    pull = (ratio[good] - mean) / error[good]
    assert 0.8 < pull.std() < 1.2


def test_detection_finds_every_star_where_galsim_put_it(night):
    folder, x, y, *_ = night
    masters = larun.Night(folder).masters()
    found = larun.Frame.read(folder / "science.fits").calibrate(masters, without=("dark",)).detect()
    near = np.hypot(found["x"].value[:, None] - x, found["y"].value[:, None] - y)
    assert (near.min(axis=0) < 0.5).all()
    best = near.argmin(axis=0)
    offset = np.array([found["x"].value[best] - x, found["y"].value[best] - y])
    assert np.abs(np.median(offset, axis=1)).max() < 0.01
    assert len(found) < len(x) + 5
