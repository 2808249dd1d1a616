"""Frames of different seeing, transparency and sky as layers, with their point-spread functions."""

import numpy as np

from larun.algorithms.mapping import affine
from larun.algorithms.psf import moffat_psf
from larun.algorithms.stacking import Layer, Rows

SEEING = (2.6, 3.2, 4.0, 5.0, 3.0)
TRANSPARENCY = (1.0, 0.8, 0.6, 0.9, 0.7)
SKY = (400.0, 900.0, 300.0, 600.0, 2000.0)
SIDE = 420


def stars(side=SIDE, step=26, seed=1):
    """Places on a grid, moved by parts of a pixel."""
    rng = np.random.default_rng(seed)
    y, x = (axis.ravel() for axis in np.mgrid[40 : side - 40 : step, 40 : side - 40 : step])
    return x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, x.size)


def layers(x, y, flux, *, turned=0.3, side=SIDE, seed=3, spoil=None, frames=range(5), shifts=None):
    """Layers with their PSFs; ``spoil(k, data, flags)`` changes a frame; the sky is taken off."""
    shape, made, psfs = (side, side), [], []
    for k in frames:
        angle = np.deg2rad(turned * k)
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        offset = (1.37 * k, -0.71 * k) if shifts is None else shifts[k]
        mapping = affine(matrix, offset, shape)
        psf = moffat_psf(SEEING[k], 3.5, oversampling=3)
        light = psf.draw(shape, *mapping.at(x, y), np.broadcast_to(flux, x.shape) * TRANSPARENCY[k])
        variance = (light + SKY[k]).astype(np.float32)
        data = np.random.default_rng([seed, k]).normal(light, np.sqrt(variance)).astype(np.float32)
        flags = np.zeros(shape, np.uint32)
        if spoil is not None:
            spoil(k, data, flags)

        def read(start, stop, planes=(data, variance, flags)):
            return Rows(*(plane[start:stop] for plane in planes), {})

        scale, noise = 1 / TRANSPARENCY[k], SKY[k] / TRANSPARENCY[k] ** 2
        made.append(Layer(read, shape, mapping, scale, (0.0, 0.0, 0.0), 1 / noise, SEEING[k], 0.0, noise))
        psfs.append(psf)
    return made, psfs


def pixels(psf, x=0.0, y=0.0, reach=16):
    """The pixels of a star all of whose light is 1, around the pixel nearest to it."""
    at = np.arange(-reach, reach + 1)
    return psf.values((at + np.rint(x) - x)[None], (at + np.rint(y) - y)[:, None])[0]


def matched_fluxes(data, psf, x, y, reach=16):
    """Fluxes of stars at known places by the filter that is best where noise is white."""
    found = []
    for at_x, at_y in zip(x, y, strict=True):
        column, row = round(at_x), round(at_y)
        star = pixels(psf, at_x, at_y, reach)
        stamp = data[row - reach : row + reach + 1, column - reach : column + reach + 1]
        found.append(np.sum(stamp * star) / np.sum(star**2))
    return np.array(found)


def neighbours(values, good, dy, dx):
    """Correlation of pixels with their neighbours."""
    ny, nx = values.shape
    one, two = (slice(0, ny - dy), slice(0, nx - dx)), (slice(dy, ny), slice(dx, nx))
    both = good[one] & good[two]
    return float(np.mean(values[one][both] * values[two][both]) / np.mean(values[good] ** 2))


def optimum(flux, psfs, frames=range(5)):
    """The root of the sum of the squares of the S/N that a star has on each frame."""
    return np.sqrt(
        sum(
            (flux * TRANSPARENCY[k]) ** 2 / SKY[k] * np.sum(pixels(psf) ** 2)
            for k, psf in zip(frames, psfs, strict=True)
        )
    )
