"""Overscan, trim, bias, dark, flat and gain with uncertainty and flags, against ``ccdproc.ccd_process``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import READ_NOISE, raw_image

__all__ = ["CASES"]


def _load_larun(folder: Path) -> Any:
    import larun

    return larun.Frame.read(folder / "raw.fits", verify=False), larun.Masters.read(folder / "masters")


def _larun(state: Any) -> Any:
    raw, masters = state
    frame = raw.calibrate(masters)
    assert frame.provenance.id  # the digest of the raw pixels, too, is worked out when it is asked for
    return frame, frame.uncertainty  # and so is what the masters add to the noise


def _load_ccdproc(folder: Path) -> Any:
    """Everything in float32 and in adu; the dark for the exposure of the frame, so that nothing is scaled."""
    import numpy as np
    from astropy.io import fits
    from astropy.nddata import CCDData, StdDevUncertainty

    data, header = fits.getdata(folder / "raw.fits", header=True)
    raw = CCDData(data.astype(np.float32), unit="adu", meta=header)
    masters = {}
    for name, unit, factor in (("bias", "adu", 1.0), ("dark", "adu", header["EXPTIME"]), ("flat", "", 1.0)):
        values, sigma = (np.load(folder / f"{name}{more}.npy") * np.float32(factor) for more in ("", "-sigma"))
        if name == "flat":  # ccdproc takes its mean: pixels without a value get 1
            values, sigma = np.nan_to_num(values, nan=1.0), np.nan_to_num(sigma)
        masters[name] = CCDData(values, unit=unit, uncertainty=StdDevUncertainty(sigma))
    return raw, masters, header


def _ccdproc(state: Any) -> Any:
    import ccdproc
    from astropy import units
    from astropy.modeling.models import Polynomial1D

    raw, masters, header = state
    exposure = header["EXPTIME"] * units.s
    made = ccdproc.ccd_process(
        raw,
        oscan=header["BIASSEC"],
        oscan_model=Polynomial1D(0),
        trim=header["TRIMSEC"],
        error=True,
        master_bias=masters["bias"],
        dark_frame=masters["dark"],
        master_flat=masters["flat"],
        gain=header["GAIN"] * units.electron / units.adu,
        readnoise=READ_NOISE * units.electron,
        dark_exposure=exposure,
        data_exposure=exposure,
        gain_corrected=False,
    )
    return made, masters["flat"]


def _digest_larun(result: Any) -> Digest:
    frame, sigma = result
    return {"data": frame.data, "sigma": sigma, "good": ~frame.unusable}


def _digest_ccdproc(result: Any) -> Digest:
    """``flat_correct`` divides by the mean of the flat, whatever its scale; that is undone here."""
    import numpy as np

    made, flat = result
    mean = float(np.mean(flat.data))
    return {"data": made.data / mean, "sigma": made.uncertainty.array / mean}


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    """Electrons; and uncertainties, once what ccdproc adds to them is added to larun's too.

    The noise of the bias cancels in bias and dark, ccdproc counts it twice; and it takes the counts before the master
    bias is subtracted for light.
    """
    import numpy as np
    from astropy.io import fits

    gain = fits.getheader(folder / "raw.fits")["GAIN"]
    bias, sigma, flat = (np.load(folder / f"{name}.npy").astype(float) for name in ("bias", "bias-sigma", "flat"))
    with np.errstate(invalid="ignore"):
        more = (2 * (gain * sigma) ** 2 + gain * bias) / flat**2
        ratio = np.sqrt(np.maximum(ours["sigma"].astype(float) ** 2 + more, 0)) / theirs["sigma"]
    good = ours["good"] & np.isfinite(theirs["data"]) & np.isfinite(ratio)
    require(good.mean() > 0.98, f"only {good.mean():.1%} of the pixels can be compared")
    gap = (ours["data"] - theirs["data"])[good]
    level = float(np.median(gap))
    rest = float(np.quantile(np.abs(gap - level), 0.999))
    off = float(np.quantile(np.abs(ratio[good] - 1), 0.99))
    require(abs(level) < 0.5, f"levels differ by {level:.3f} e-")
    require(rest < 0.1, f"electrons differ by more than {rest:.2g} at 0.1 % of the pixels")
    require(off < 0.005, f"uncertainties differ by more than {off:.2%} at 1 % of the pixels")
    plain = float(np.median(ours["sigma"][good] / theirs["sigma"][good]))
    return (
        f"electrons equal to {rest:.1g} at 99.9 % of {int(good.sum())} good pixels, with {abs(level):.2f} between "
        f"the overscan levels (clipped mean; fitted row medians); uncertainties to {off:.2%} at 99 %, once noise of "
        f"the bias, which cancels in bias and dark, and the bias structure are added as ccdproc does (without: "
        f"{plain:.3f} of ccdproc's)"
    )


CASES = (
    Case(
        topic="calibrate",
        name="uncertainty and flags",
        make=raw_image,
        larun=Side("larun", _load_larun, _larun, _digest_larun),
        peer=Side("ccdproc", _load_ccdproc, _ccdproc, _digest_ccdproc),
        check=_check,
        full=Size(4096, stars=20000),
        quick=Size(1024, stars=1250),
        bar=20,
    ),
)
