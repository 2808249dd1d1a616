"""Cosmic rays in real exposures: an undersampled one from space, a globular cluster and a long one from the ground."""

import numpy as np
from astropy.io import fits
from scipy import ndimage

from larun.algorithms.cosmic import CosmicOptions, lacosmic
from larun.simulate.cosmics import cosmic_rays
from tests.conftest import real_data


def hst():
    """WFC3/UVIS, 479 s, F606W, undersampled; the telescope followed Pluto, so stars are trails."""
    with fits.open(real_data("hst", "pluto1.fits.gz")) as file:
        data, error, quality = (np.ascontiguousarray(file[k].data.astype(np.float32)) for k in ("SCI", "ERR", "DQ"))
    return data, error**2, quality != 0


def test_real_hst_trails_survive_and_injected_rays_are_found():
    data, variance, unusable = hst()
    none = np.zeros(data.shape, bool)
    options = CosmicOptions(fwhm=1.7)
    mask = lacosmic(data, variance, unusable, none, options=options).mask
    groups = ndimage.label(mask, np.ones((3, 3)))[1]
    assert 300 < groups < 1200

    smooth = ndimage.median_filter(data, 3) - np.median(data)
    noise = 1.48 * np.median(np.abs(data - np.median(data)))
    labels, _ = ndimage.label(smooth > 8 * noise)
    cores = np.zeros(data.shape, bool)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        trail = labels[box] == number
        if 15 <= trail.sum() <= 200:
            cores[box] |= trail & (smooth[box] > 0.5 * smooth[box][trail].max())
    assert cores.sum() > 1000
    # Rays fall on stars as often as on sky; a filter that eats stars takes a tenth of their pixels and more.
    assert mask[cores].mean() < 2 * mask[~cores].mean()

    rays = cosmic_rays(data.shape, count=300, rng=np.random.default_rng(1))
    hit = data + rays
    found = lacosmic(hit, variance + rays, unusable, none, options=options).mask
    bright = (rays > 5 * np.sqrt(variance)) & ~unusable
    assert found[bright].mean() > 0.85


def nickel(name):
    """A Lick Nickel exposure in electrons (crude bias subtraction), its variance, defects, saturated pixels."""
    with fits.open(real_data("nickel", f"{name}.fits.fz")) as file:
        raw = file[1].data.astype(np.float32)
    level = np.median(raw[:, 1024:], axis=1, keepdims=True)
    data = np.ascontiguousarray((raw[:, :1024] - level) * np.float32(1.79))
    unusable = np.zeros(data.shape, bool)
    for defect in (np.s_[:, 255:258], np.s_[:, 782:787], np.s_[:, 1000:1005], np.s_[:3]):
        unusable[defect] = True  # a dead column, two hot ones, the first rows
    saturated = (raw[:, :1024] >= 60_000) & ~unusable
    return data, np.maximum(data, 0) + np.float32((5.8 * 1.79) ** 2), unusable, saturated


def peaks(data, height):
    """Local maxima of the smoothed frame."""
    smooth = ndimage.gaussian_filter(data - np.median(data), 1.5)
    noise = 1.48 * np.median(np.abs(data - np.median(data)))
    return (smooth == ndimage.maximum_filter(smooth, 7)) & (smooth > height * noise)


def test_real_globular_cluster_keeps_its_stars():
    planes = nickel("d1059")  # M 13, 60 s
    rays = lacosmic(*planes, options=CosmicOptions(fwhm=3.0))
    stars = peaks(planes[0], 3) & ~ndimage.binary_dilation(planes[2], np.ones((5, 5)))
    assert stars.sum() > 800
    assert ndimage.binary_dilation(rays.mask, np.ones((3, 3)))[stars].mean() < 0.01
    assert 5 < ndimage.label(rays.mask, np.ones((3, 3)))[1] < 60


def test_real_long_exposure_loses_its_rays():
    planes = nickel("d1074")  # UGC 9837, 600 s
    short = lacosmic(*nickel("d1059"), options=CosmicOptions(fwhm=3.0))
    rays = lacosmic(*planes, options=CosmicOptions(fwhm=3.0))
    count, count_short = (ndimage.label(found.mask, np.ones((3, 3)))[1] for found in (rays, short))
    assert count > 4 * count_short  # ten times the exposure; hot pixels are in both
    again = lacosmic(rays.cleaned, rays.variance, *planes[2:], options=CosmicOptions(fwhm=3.0))
    assert again.mask.sum() < 0.05 * rays.mask.sum()
