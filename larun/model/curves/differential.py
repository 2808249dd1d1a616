"""Differences of a field in order of time, and the light of places in them with its covariance."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.forced import covariance
from larun.errors import CatalogError, OptionError
from larun.model import registry
from larun.model.curves.calibrating import Moments
from larun.model.measure import schema
from larun.model.measure.positions import positions_of, sky_positions
from larun.model.measure.schema import Column
from larun.model.subtracting.forced import Measured, measured, subtraction_of

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.difference import DifferenceImage
    from larun.model.time.timing import ExposureTime
    from larun.provenance import Provenance

__all__ = ["COLUMNS", "Shot", "in_time", "on_reference", "places_on", "reference_of", "table_of", "time_of"]

#: The columns of a light curve of differences.
COLUMNS: tuple[Column, ...] = (
    Column("star", np.int32, "", "number of the place, from 1"),
    Column("frame", np.str_, "", "the science image, by its raw file"),
    Column("jd_utc", np.float64, "d", "Julian date of mid-exposure, UTC"),
    Column("bjd_tdb", np.float64, "d", "mid-exposure at the barycentre, TDB; NaN where no coordinates are known"),
    Column("flux", np.float64, "image", "light more than in the reference, on the scale of the reference"),
    Column("flux_error", np.float64, "image", "1 sigma of flux; see covariance for what epochs have in common"),
    Column("snr", np.float64, "", "flux over its error"),
    Column("flux_limit", np.float64, "image", "upper limit: what is more than this would have been seen"),
    Column("scale", np.float64, "", "flux on the science image over flux on the reference"),
    Column("chi2", np.float64, "", "chi^2 of what the PSF leaves, by its degrees of freedom"),
    Column("psf_share", np.float64, "", "share of the squares of the PSF on usable pixels"),
    Column("airmass", np.float64, "", "at mid-exposure"),
    Column("exposure", np.float64, "s", "exposure time"),
    Column("x", np.float64, "pix", "column of the place on the difference"),
    Column("y", np.float64, "pix", "row of the place on the difference"),
    Column("flags", np.uint32, "", "OR of the pixel flags within one FWHM"),
    Column("covariance", np.float64, "", "of flux with that of each epoch of the place, in order of time"),
)


class Shot(NamedTuple):
    """A difference with its time."""

    image: DifferenceImage
    time: ExposureTime
    label: str


def in_time(given: Iterable[Any]) -> list[Shot]:
    """Differences in order of time.

    Raises
    ------
    OptionError
        If there are none, one is no difference or has no time, or they have several references.
    """
    from larun.model.difference import DifferenceImage

    listed = [given] if isinstance(given, DifferenceImage | str | Path) else list(given)
    images = [DifferenceImage.read(item) if isinstance(item, str | Path) else item for item in listed]
    if not images:
        raise OptionError("there are no differences to make a light curve of")
    found: dict[str, Shot] = {}
    for image in images:
        if not isinstance(image, DifferenceImage):
            raise OptionError(f"{image!r} is no difference: frame.subtract(reference) makes one")
        label = image.provenance.name or image.provenance.id[:12]
        time = time_of(image)
        if time.mid is None:
            raise OptionError(f"{label}: {time.sources.get('mid', 'no card says when it was taken')}")
        found.setdefault(image.provenance.id, Shot(image, time, label))
    shots = sorted(found.values(), key=lambda shot: (shot.time.jd_utc, shot.image.provenance.id))
    references = {reference_of(shot.image).id for shot in shots}
    if len(references) > 1:
        raise OptionError(
            f"the differences have {len(references)} references: what is more in one is less in another; subtract one "
            "reference from all frames"
        )
    return shots


def reference_of(image: DifferenceImage) -> Provenance:
    """The record of what was subtracted."""
    node = subtraction_of(image)
    return next(parent.provenance for parent in node.parents if parent.role == "reference")


def time_of(image: DifferenceImage) -> ExposureTime:
    """By the camera of the science image, whose header a difference has."""
    from larun.model.frame import Frame

    camera: Any = type(image.science)
    if not issubclass(camera, Frame):
        camera = registry.choose(image.header, Frame, image.provenance.name)
    made: ExposureTime = camera.time_for(image.header)
    return made


def places_on(shots: list[Shot], positions: Any) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Where the places are on each difference, in pixels; given in pixels of the first in time.

    Raises
    ------
    OptionError
        If differences lie on different pixels and nothing tells how.
    CatalogError
        If sky coordinates are given and there is no WCS.
    """
    first = shots[0].image
    x, y = positions_of(first, positions)
    if not len(x):
        raise OptionError("positions: there is no place to measure")
    if all(on_reference(shot.image) and shot.image.shape == first.shape for shot in shots):
        return [(x, y)] * len(shots)
    if any(shot.image.wcs is None for shot in shots):
        raise OptionError(
            "the differences lie on pixels of their own and have no WCS: align the frames to the reference before "
            "(frame.align_to), or solve them"
        )
    from astropy.coordinates import SkyCoord

    try:
        there = SkyCoord(*sky_positions(first, x, y, "icrs"), unit="deg")
    except ValueError as error:
        raise CatalogError(f"{first!r}: its WCS is not in equatorial coordinates") from error
    return [(x, y), *(positions_of(shot.image, there) for shot in shots[1:])]


def on_reference(image: DifferenceImage) -> bool:
    """Whether a difference lies on the pixels of its reference, and was not cropped since."""
    node = subtraction_of(image)
    return node is image.provenance and node.step is not None and node.step.fitted["aligned"] != "reference"


def table_of(
    shots: list[Shot],
    places: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    coordinates: list[tuple[float, float]] | None,
    sigma: float,
) -> QTable:
    """The table of all places, one after the other, each in order of time; on the flux scale of the reference."""
    count, epochs = len(places[0][0]), len(shots)
    moments = Moments.of(shots, coordinates, count)  # type: ignore[arg-type]  # of an epoch the time alone counts
    got = [measured(shot.image, *place) for shot, place in zip(shots, places, strict=True)]
    scale = np.array([shot.image.scale for shot in shots])
    flux = np.array([[one.fluxes[n].flux for one in got] for n in range(count)]) / scale
    matrices = np.stack([_covariance(got, n) for n in range(count)]) / (scale[:, None] * scale[None, :])
    error = np.sqrt(np.diagonal(matrices, axis1=1, axis2=2))

    def of_places(name: str) -> list[Any]:
        return [getattr(one.fluxes[n], name) for n in range(count) for one in got]

    values: dict[str, Any] = {
        "star": np.repeat(np.arange(1, count + 1), epochs),
        "frame": np.tile([shot.label for shot in shots], count),
        "jd_utc": np.tile(moments.jd_utc, count),
        "bjd_tdb": moments.bjd_tdb.T.ravel(),
        "flux": flux.ravel(),
        "flux_error": error.ravel(),
        "snr": (flux / error).ravel(),
        "flux_limit": (np.maximum(flux, 0) + sigma * error).ravel(),
        "scale": np.tile(scale, count),
        "chi2": of_places("chi2"),
        "psf_share": of_places("share"),
        "airmass": np.tile(moments.airmass, count),
        "exposure": np.tile(moments.exposure, count),
        "x": np.array([place[0] for place in places]).T.ravel(),
        "y": np.array([place[1] for place in places]).T.ravel(),
        "flags": of_places("flags"),
        "covariance": matrices.reshape(count * epochs, epochs),
    }
    table = schema.table(COLUMNS, values, shots[0].image.unit)
    parts = [one.part for one in got]
    table.meta = {"schema": 1, "stars": count, "time": moments.note, "limit": sigma, "parts_of_reference": parts}
    return table


def _covariance(got: list[Measured], star: int) -> NDArray[np.float64]:
    return covariance([one.noise[star] for one in got], [one.part for one in got])
