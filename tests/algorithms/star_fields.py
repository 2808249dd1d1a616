"""Star fields with known truth, drawn independently of the code under test: Moffat stars integrated over pixels."""

from typing import NamedTuple

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)
_OFFSETS = _NODES / 2
_WEIGHTS = _WEIGHTS / 2


def draw(shape, x, y, flux, fwhm, beta=3.5, reach=None):
    """Sum of Moffat stars (Gaussian for beta = inf), 4 × 4 Gauss-Legendre points a pixel."""
    reach = int(np.ceil(8 * fwhm)) + 2 if reach is None else reach
    image = np.zeros((shape[0] + 2 * reach, shape[1] + 2 * reach))
    steps = (np.arange(-reach, reach + 1)[:, None] + _OFFSETS).ravel()
    weights = np.tile(_WEIGHTS, 2 * reach + 1)
    for cx, cy, total in zip(x, y, flux, strict=True):
        px, py = round(cx), round(cy)
        r2 = (steps + py - cy)[:, None] ** 2 + (steps + px - cx)[None, :] ** 2
        if np.isinf(beta):
            s2 = fwhm**2 / (8 * np.log(2))
            values = np.exp(-r2 / (2 * s2)) / (2 * np.pi * s2)
        else:
            a2 = fwhm**2 / 4 / (2 ** (1 / beta) - 1)
            values = (1 + r2 / a2) ** -beta * (beta - 1) / (np.pi * a2)
        values *= weights[:, None] * weights[None, :]
        stamp = values.reshape(2 * reach + 1, 4, 2 * reach + 1, 4).sum(axis=(1, 3))
        image[py : py + 2 * reach + 1, px : px + 2 * reach + 1] += total * stamp
    return image[reach:-reach, reach:-reach]


class Field(NamedTuple):
    data: np.ndarray
    variance: np.ndarray
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray


def field(rng, size, stars, fwhm, *, beta=3.0, sky=200.0, read_noise=5.0, faintest=200.0, brightest=3e5):
    """Stars at random places, N(> flux) falling as 1 / flux, with photon and read noise, in electrons."""
    share = rng.random(stars)
    flux = 1 / (1 / faintest + share * (1 / brightest - 1 / faintest))
    x, y = rng.uniform(-0.5, size - 0.5, (2, stars))
    stars_only = draw((size, size), np.clip(x, 0, size - 1), np.clip(y, 0, size - 1), flux, fwhm, beta, int(5 * fwhm))
    data = rng.poisson(stars_only + sky) + rng.normal(0, read_noise, (size, size))
    data = data.astype(np.float32)
    variance = (np.maximum(data, 0) + read_noise**2).astype(np.float32)
    return Field(data, variance, np.clip(x, 0, size - 1), np.clip(y, 0, size - 1), flux)


def grid(rng, size, step):
    """Positions on a grid with a random fraction of a pixel each."""
    centres = np.arange(step / 2, size - step / 2 + 1e-9, step)
    y, x = np.meshgrid(centres, centres, indexing="ij")
    return x.ravel() + rng.uniform(-0.5, 0.5, x.size), y.ravel() + rng.uniform(-0.5, 0.5, x.size)
