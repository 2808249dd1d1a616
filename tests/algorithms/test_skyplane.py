"""Projections against astropy's WCS, and cards that astropy reads as they are meant."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from larun.algorithms.planefit import fit_plane
from larun.algorithms.skyplane import from_stereographic, from_tangent, sip_cards, to_stereographic, to_tangent

PLACES = [(0.01, 0.0), (123.4, 45.0), (350.0, -89.99), (10.0, 90.0), (359.9999, 89.9)]


@pytest.mark.parametrize("centre", PLACES)
@pytest.mark.parametrize(
    ("name", "there", "back"),
    [
        ("TAN", to_tangent, from_tangent),
        ("STG", to_stereographic, from_stereographic),
    ],
)
def test_projections_are_those_of_the_standard(centre, name, there, back):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.lonpole = [f"RA---{name}", f"DEC--{name}"], centre, 180.0
    plane = np.random.default_rng(1).uniform(-3, 3, (200, 2))
    ra, dec = back(plane, centre)
    expected = wcs.wcs_pix2world(plane, 1)  # counted as the reference pixel is
    apart = np.hypot((ra - expected[:, 0] + 180) % 360 - 180, 0) * np.cos(np.radians(dec))
    assert np.abs(apart).max() < 1e-10
    assert np.abs(dec - expected[:, 1]).max() < 1e-10
    assert np.abs(there(ra, dec, centre) - plane).max() < 1e-10


def test_what_is_behind_is_not_seen():
    assert np.isnan(to_tangent([180.0], [0.0], (0.0, 0.0))).all()
    assert not np.isfinite(to_stereographic([180.0], [0.0], (0.0, 0.0))).all()


def test_the_other_projection_keeps_shapes():
    rng = np.random.default_rng(2)
    small = rng.uniform(-0.01, 0.01, (3, 2))
    ra, dec = from_tangent(small, (40.0, 30.0))
    far = to_stereographic(ra, dec, (20.0, 10.0))
    sides = [np.hypot(*(p[[1, 2, 0]] - p).T) for p in (small, far)]
    assert np.ptp(sides[1] / sides[0]) < 1e-4


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_astropy_reads_the_cards_as_they_are_meant(degree):
    rng = np.random.default_rng(degree)
    shape, about, centre = (800, 1200), (599.5, 399.5), (210.0, 89.5)
    xy = rng.uniform(0, 1, (200, 2)) * (1200, 800)

    def bend(xy):
        u = (xy - about) / 600
        cubic = u * np.sum(u**2, axis=1, keepdims=True) if degree > 2 else 0 * u
        quartic = u**4 if degree > 3 else 0 * u
        square = u * u[:, ::-1] if degree > 1 else 0 * u
        return (xy - about + 2 * square + 3 * cubic + 0.5 * quartic) @ np.array([[-0.3, 0.1], [0.1, 0.31]]) / 3600

    fit = fit_plane(xy, bend(xy), degree)
    header = fits.Header(sip_cards(fit.transform, centre, about, shape))
    wcs = WCS(header)
    assert header["CTYPE1"] == ("RA---TAN" if degree == 1 else "RA---TAN-SIP")
    ra, dec = from_tangent(bend(xy), centre)
    expected = wcs.all_pix2world(xy, 0)
    assert np.abs(to_tangent(*expected.T, centre) - bend(xy)).max() * 3600 < 1e-6
    again = wcs.all_world2pix(np.stack([ra, dec], axis=1), 0)
    assert np.abs(again - xy).max() < 1e-4
    if degree > 1:  # the stored inverse, without iteration
        u, v = (wcs.wcs_world2pix(np.stack([ra, dec], axis=1), 0) - about).T
        for axis, letter in enumerate(("AP", "BP")):
            size = header[f"{letter}_ORDER"] + 1
            terms = [header[f"{letter}_{i}_{j}"] * u**i * v**j for i in range(size) for j in range(size - i)]
            assert np.abs((u, v)[axis] + sum(terms) + about[axis] - xy[:, axis]).max() < 0.02
