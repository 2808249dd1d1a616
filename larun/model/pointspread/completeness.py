"""How many stars PSF photometry of an image finds, by magnitude and by where they are: with stars that are put in."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.detect import DetectOptions
from larun.algorithms.psf_crowd import SearchOptions
from larun.algorithms.psf_field import FieldOptions
from larun.algorithms.psf_inject import InjectOptions, binomial, flux_of_snr, inject, places_in_ring
from larun.algorithms.robust import SIGMA_PER_MAD
from larun.errors import CatalogError, OptionError
from larun.model.pointspread.making import photon_gain, sky_planes
from larun.model.pointspread.options import CompletenessOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import QTable

    from larun.model.catalog import SourceCatalog
    from larun.model.sky import SkyImage

__all__ = ["completeness"]

#: Signal to noise of stars alone at the edges of bins, where no magnitudes are given.
_SNR = (3.0, 5.0, 10.0, 20.0, 50.0, 200.0)


def completeness(
    image: SkyImage,
    catalog: SourceCatalog,
    centre: tuple[float, float] | None,
    rings: Sequence[float] | None,
    magnitudes: Sequence[float] | None,
    options: CompletenessOptions,
) -> QTable:
    """A table of ring by bin of magnitude.

    Raises
    ------
    CatalogError
        If the catalogue has no fluxes by a PSF, or not its PSF.
    OptionError
        If rings or magnitudes do not rise, or a ring has no usable pixels.
    """
    table, psf = catalog._table, catalog.psf
    if psf is None or "flux_psf" not in table.colnames:
        raise CatalogError(
            "no stars measured with a PSF: catalog.photometer(method='psf') makes a catalogue whose completeness can "
            "be asked for"
        )
    known = np.column_stack([np.asarray(table[n].value, np.float64) for n in ("x_psf", "y_psf", "flux_psf")])
    light = psf.draw(image.shape, *known.T)
    planes = sky_planes(image, light)
    gain, (ny, nx) = photon_gain(image), image.shape
    usual = float(np.median(planes[2]))
    bins = _edges(magnitudes, "magnitudes")
    if bins is None:
        bins = -2.5 * np.log10([flux_of_snr(snr, usual, gain, psf.fwhm) for snr in reversed(_SNR)])
    edges = _edges(rings, "rings")
    if edges is None:
        edges = np.array([0.0, math.inf])
    middle = ((nx - 1) / 2, (ny - 1) / 2) if centre is None else (float(centre[0]), float(centre[1]))
    crowded = "psf_passes" in table.meta
    how = InjectOptions(
        detect=DetectOptions(fwhm=float(table.meta.get("fwhm", psf.fwhm)), threshold=options.threshold, gain=gain),
        fit=FieldOptions(gain=gain),
        search=SearchOptions(passes=options.passes, threshold=options.threshold) if crowded else None,
        radius=options.radius,
        agree=options.agree,
        seed=options.seed,
    )
    rows = []
    for i, ring in enumerate(itertools.pairwise(edges)):
        for j, (low, high) in enumerate(itertools.pairwise(bins)):
            random = np.random.default_rng([options.seed, i, j])
            places = places_in_ring(~image.unusable, middle, ring, options.stars, random)
            if len(places) < options.stars:
                raise OptionError(
                    f"rings={ring[0]:g} to {ring[1]:g} pixels around {middle}: {len(places)} of {options.stars} stars "
                    "have a place on usable pixels of the image"
                )
            magnitude = random.uniform(low, high, len(places))
            stars = np.column_stack([places, 10 ** (-0.4 * magnitude)])
            made = inject(planes, psf.function, known, stars, options=how)
            off = -2.5 * np.log10(made.flux[made.found]) - magnitude[made.found]
            rows.append(((*ring, low, high), made.found, off))
    return _table(rows, (usual, gain, psf.fwhm), {"centre": middle, "crowded": crowded, "seed": options.seed})


def _edges(given: Sequence[float] | None, name: str) -> NDArray[np.float64] | None:
    if given is None:
        return None
    edges = np.asarray(given, np.float64)
    if edges.ndim != 1 or edges.size < 2 or not np.all(np.diff(edges) > 0):
        raise OptionError(f"{name}={given!r}: must be at least two edges that rise")
    return edges


def _table(rows: list[Any], sky: tuple[float, float, float], meta: dict[str, Any]) -> QTable:
    from astropy import units as u
    from astropy.table import QTable

    where = np.array([row[0] for row in rows])
    count, found = (np.array([len(row[1]) for row in rows]), np.array([int(row[1].sum()) for row in rows]))
    limits = np.array([binomial(int(hit), int(of)) for hit, of in zip(found, count, strict=True)])
    off = [row[2] for row in rows]
    bias = np.array([np.median(part) if part.size else np.nan for part in off])
    scatter = [SIGMA_PER_MAD * np.median(np.abs(part - np.median(part))) if part.size > 1 else np.nan for part in off]
    return QTable(
        {
            "ring_inner": where[:, 0] * u.pix,
            "ring_outer": where[:, 1] * u.pix,
            "mag_low": where[:, 2],
            "mag_high": where[:, 3],
            "snr": _snr(10 ** (-0.2 * (where[:, 2] + where[:, 3])), sky),
            "injected": count,
            "found": found,
            "share": found / count,
            "share_low": limits[:, 0],
            "share_high": limits[:, 1],
            "mag_bias": bias,
            "mag_scatter": np.array(scatter),
        },
        meta=meta,
    )


def _snr(flux: NDArray[np.float64], sky: tuple[float, float, float]) -> NDArray[np.float64]:
    """Signal to noise of stars alone."""
    variance, gain, fwhm = sky
    least = flux_of_snr(1.0, variance, 1e12, fwhm) ** 2  # of the sky alone
    return np.asarray(flux / np.sqrt(flux / gain + least), np.float64)
