"""Two simulated images of one field, as sharp as wanted, with known truth: for tests of subtraction."""

from __future__ import annotations

from typing import Any, NamedTuple

import attrs
import numpy as np

from larun.algorithms.arrays import read_only
from larun.algorithms.psf import PSF, moffat_psf

Array = Any


class Pair(NamedTuple):
    """Science and reference with their variance by the truth, and where the stars are."""

    science: Array
    reference: Array
    science_variance: Array
    reference_variance: Array
    x: Array
    y: Array
    flux: Array
    psf: PSF


def varying(shape: tuple[int, int], one: PSF, right: PSF, top: PSF) -> PSF:
    """A PSF that is ``one`` in the middle of the image and changes towards ``right`` and ``top``, linearly."""
    nodes = np.stack([one.nodes[0], right.nodes[0] - one.nodes[0], top.nodes[0] - one.nodes[0]])
    ny, nx = shape
    return attrs.evolve(one, nodes=read_only(nodes, np.float64), domain=((nx - 1) / 2, nx / 2, (ny - 1) / 2, ny / 2))


def psf_of(shape: tuple[int, int], fwhm: float, *, change: float = 0.06, ratio: float = 1.0) -> PSF:
    """A Moffat PSF whose width changes by a part over half the image, and whose shape does too."""
    radius = max(12, round(5 * fwhm))
    how: dict[str, Any] = {"radius": radius, "oversampling": 3}
    return varying(
        shape,
        moffat_psf(fwhm, 3.5, ratio=ratio, **how),
        moffat_psf(fwhm * (1 + change), 3.5, ratio=ratio, **how),
        moffat_psf(fwhm, 3.5, ratio=ratio * (1 - abs(change)), theta=30.0, **how),
    )


def pair(
    shape: tuple[int, int] = (400, 420),
    *,
    fwhm: tuple[float, float] = (3.6, 2.7),
    stars: int = 400,
    scale: float = 1.0,
    sky: tuple[float, float] = (300.0, 300.0),
    brightest: float = 1e5,
    faintest: float = 300.0,
    read_noise: float = 6.0,
    change: float = 0.06,
    shift: tuple[float, float] = (0.0, 0.0),
    seed: int = 1,
    noise: bool = True,
) -> Pair:
    """Science (first of each pair of numbers) and reference; ``scale`` is the flux of the first over the second's."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-5, shape[1] + 4, stars), rng.uniform(-5, shape[0] + 4, stars)
    flux = faintest * (brightest / faintest) ** (rng.uniform(0, 1, stars) ** 2.5)
    own = [psf_of(shape, width, change=change * sign) for width, sign in zip(fwhm, (1, -1), strict=True)]
    v, u = np.mgrid[: shape[0], : shape[1]] / max(shape)
    light = (
        scale * own[0].draw(shape, x + shift[0], y + shift[1], flux) + sky[0] * (1 + 0.03 * u - 0.02 * v * u),
        own[1].draw(shape, x, y, flux) + sky[1] * (1 - 0.02 * v),
    )
    variance = [part + read_noise**2 for part in light]
    drawn = [
        (part + noise * (rng.poisson(part) - part + rng.normal(0, read_noise, shape))).astype(np.float32)
        for part in light
    ]
    return Pair(drawn[0], drawn[1], variance[0].astype(np.float32), variance[1].astype(np.float32), x, y, flux, own[0])
