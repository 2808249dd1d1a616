"""A night from raw files to catalogues with ccdproc, astroscrappy and photutils, as their documentation shows it.

    python -m tests.benchmarks.scripts.night_with_peers RAW OUT

Masters by ``ccdproc.combine`` with clipping; ``ccd_process`` with uncertainties for every science frame; cosmic rays
by ``cosmicray_lacosmic`` (astroscrappy); ``Background2D``, ``DAOStarFinder``, ``aperture_photometry`` with a clipped
median in an annulus; masters, frames and catalogues on disk. After the guide "CCD Data Reduction" (Craig & Chambers)
and photutils' user guide.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import ccdproc
import numpy as np
from astropy import units as u
from astropy.io.fits.verify import VerifyWarning
from astropy.modeling.models import Polynomial1D
from astropy.nddata import CCDData
from astropy.stats import SigmaClip, mad_std
from astropy.table import QTable
from astropy.wcs import FITSFixedWarning
from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture, aperture_photometry
from photutils.background import Background2D, SExtractorBackground
from photutils.detection import DAOStarFinder

CLIP = {
    "sigma_clip": True,
    "sigma_clip_low_thresh": 5,
    "sigma_clip_high_thresh": 5,
    "sigma_clip_func": np.ma.median,
    "sigma_clip_dev_func": mad_std,
    "dtype": np.float32,
}
FWHM = 3.0
RADII = (1.0, 1.5, 2.5, 4.0)  # FWHM


def levelled(path: Path) -> CCDData:
    """A raw frame without overscan, trimmed, in float32."""
    raw = CCDData.read(path, unit="adu")
    raw.data = raw.data.astype(np.float32)
    level = ccdproc.subtract_overscan(
        raw, fits_section=raw.header["BIASSEC"], median=True, model=Polynomial1D(0), overscan_axis=1
    )
    return ccdproc.trim_image(level, fits_section=raw.header["TRIMSEC"])


def exposure(ccd: CCDData) -> Any:
    """Exposure time."""
    return ccd.header["EXPTIME"] * u.s


def make_masters(files: dict[str, list[Path]], out: Path) -> tuple[CCDData, CCDData, CCDData]:
    """Bias, dark and flat, clipped about the median, with their uncertainties."""
    bias = ccdproc.combine([levelled(path) for path in files["bias"]], method="average", **CLIP)
    darks = [ccdproc.subtract_bias(levelled(path), bias) for path in files["dark"]]
    dark = ccdproc.combine(darks, method="average", **CLIP)
    dark.header["EXPTIME"] = darks[0].header["EXPTIME"]
    flats = []
    for path in files["flat"]:
        flat = ccdproc.subtract_bias(levelled(path), bias)
        flats.append(
            ccdproc.subtract_dark(flat, dark, dark_exposure=exposure(dark), data_exposure=exposure(flat), scale=True)
        )
    flat = ccdproc.combine(flats, method="average", scale=lambda values: 1 / np.ma.median(values), **CLIP)
    for name, master in (("bias", bias), ("dark", dark), ("flat", flat)):
        master.write(out / "masters" / f"{name}.fits", overwrite=True)
    return bias, dark, flat


def reduce_frame(path: Path, masters: tuple[CCDData, CCDData, CCDData]) -> CCDData:
    """A science frame in electrons with uncertainty, cosmic rays removed."""
    bias, dark, flat = masters
    raw = CCDData.read(path, unit="adu")
    raw.data = raw.data.astype(np.float32)
    made = ccdproc.ccd_process(
        raw,
        oscan=raw.header["BIASSEC"],
        oscan_model=Polynomial1D(0),
        trim=raw.header["TRIMSEC"],
        error=True,
        master_bias=bias,
        dark_frame=dark,
        master_flat=flat,
        gain=raw.header["GAIN"] * u.electron / u.adu,
        readnoise=raw.header["RDNOISE"] * u.electron,
        dark_exposure=exposure(dark),
        data_exposure=exposure(raw),
        dark_scale=True,
        gain_corrected=False,
    )
    return ccdproc.cosmicray_lacosmic(
        made,
        sigclip=4.5,
        gain=1.0,
        readnoise=raw.header["RDNOISE"],
        satlevel=raw.header["SATURATE"] * raw.header["GAIN"],
        sepmed=True,
        gain_apply=False,
    )


def measure(ccd: CCDData) -> QTable:
    """Sources, with fluxes in four apertures above the clipped median of an annulus."""
    sky = Background2D(
        ccd.data, 64, filter_size=3, sigma_clip=SigmaClip(sigma=3.0), bkg_estimator=SExtractorBackground()
    )
    finder = DAOStarFinder(threshold=5 * sky.background_rms_median, fwhm=FWHM)
    found = finder(ccd.data - sky.background)
    places = np.column_stack([found["x_centroid"], found["y_centroid"]])
    annulus = CircularAnnulus(places, 5 * FWHM, 8 * FWHM)
    local = ApertureStats(ccd.data, annulus, sigma_clip=SigmaClip(sigma=3.0)).median
    circles = [CircularAperture(places, radius * FWHM) for radius in RADII]
    table = aperture_photometry(ccd.data, circles, error=ccd.uncertainty.array)
    table["sky"] = local
    for number, circle in enumerate(circles):
        table[f"flux_{number + 1}"] = table[f"aperture_sum_{number}"] - local * circle.area
    if ccd.wcs is not None:
        table["ra"], table["dec"] = ccd.wcs.pixel_to_world_values(*places.T)
    return table


def main() -> None:
    """Reduce the folder."""
    folder, out = map(Path, sys.argv[1:])
    warnings.simplefilter("ignore", VerifyWarning)
    warnings.simplefilter("ignore", FITSFixedWarning)
    for name in ("masters", "frames", "catalogs"):
        (out / name).mkdir(parents=True, exist_ok=True)
    listed = ccdproc.ImageFileCollection(folder, keywords=["imagetyp"])
    files = {
        kind: sorted(map(Path, listed.files_filtered(imagetyp=kind, include_path=True)))
        for kind in ("bias", "dark", "flat", "object")
    }
    masters = make_masters(files, out)
    for path in files["object"]:
        ccd = reduce_frame(path, masters)
        ccd.write(out / "frames" / path.name, overwrite=True)
        measure(ccd).write(out / "catalogs" / f"{path.stem}.ecsv", overwrite=True)


if __name__ == "__main__":
    main()
