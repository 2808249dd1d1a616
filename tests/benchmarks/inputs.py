"""Simulated inputs: sky 200 e-, read noise 8 e-, Moffat stars of FWHM 3 pixels, and the truth beside them.

The same size gives the same files. They are plain arrays, or FITS files with headers such as a camera
writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Size

__all__ = ["BETA", "FWHM", "READ_NOISE", "SKY", "bias_frames", "calibrated", "night", "pair", "raw_image", "scene"]

SKY, READ_NOISE, FWHM, BETA = 200.0, 8.0, 3.0, 3.0  # electrons, electrons, pixels
_FAINTEST, _BRIGHTEST = 250.0, 1e6  # electrons: S/N from about 3
_BIAS = 1000.0
_CARDS = {"GAIN": 1.0, "RDNOISE": READ_NOISE, "SATURATE": 65000.0, "INSTRUME": "benchmark"}


def _write(path: Path, data: Any, **cards: Any) -> None:
    from astropy.io import fits

    header = fits.Header(_CARDS | cards)
    fits.PrimaryHDU(data, header).writeto(path)


def bias_frames(folder: Path, size: Size) -> None:
    """uint16 bias frames with cosmic rays, ``bias-00.fits`` …: what a stack of any kind looks like to a clip."""
    import numpy as np

    from larun import simulate

    rng, shape = np.random.default_rng(11), (size.side, size.side)
    structure = rng.normal(_BIAS + SKY, 3.0, shape).astype(np.float32)
    for number in range(size.frames):
        frame = structure + READ_NOISE * rng.standard_normal(shape, np.float32)
        frame += simulate.cosmic_rays(shape, count=size.side**2 // 5600, rng=rng)
        counts = np.rint(np.clip(frame, 0, 65535)).astype(np.uint16)
        _write(folder / f"bias-{number:02d}.fits", counts, IMAGETYP="bias", EXPTIME=0.0)


def scene(folder: Path, size: Size) -> None:
    """A calibrated image: ``data.npy`` and ``variance.npy`` (float32), ``image.fits``, and ``truth.npz``.

    The truth holds ``x``, ``y``, ``flux`` and the S/N of each star under a perfect matched filter, and the charge of
    cosmic rays in every pixel where there are tracks.
    """
    import numpy as np

    from larun import simulate

    rng, shape = np.random.default_rng(23), (size.side, size.side)
    stars = simulate.draw_stars(shape, count=size.stars, rng=rng, faintest=_FAINTEST, brightest=_BRIGHTEST)
    light = simulate.render(shape, stars.x, stars.y, stars.flux, fwhm=FWHM, beta=BETA)
    charge = simulate.cosmic_rays(shape, count=size.tracks, rng=rng)
    data = simulate.noisy(light + SKY, read_noise=READ_NOISE, rng=rng) + charge
    np.save(folder / "data.npy", data)
    np.save(folder / "variance.npy", (np.maximum(data, 0) + READ_NOISE**2).astype(np.float32))
    _write(folder / "image.fits", data, BUNIT="electron", IMAGETYP="object", EXPTIME=60.0)
    profile = simulate.render((41, 41), [20.0], [20.0], [1.0], fwhm=FWHM, beta=BETA)
    snr = np.asarray(stars.flux) * np.sqrt((profile**2).sum() / (SKY + READ_NOISE**2))
    truth = {"x": stars.x, "y": stars.y, "flux": stars.flux, "snr": snr}
    np.savez(folder / "truth.npz", **truth, **({"charge": charge} if size.tracks else {}))


def pair(folder: Path, size: Size) -> None:
    """Two exposures of one field, the second turned and moved: ``data.npy`` and ``variance.npy``, ``data2.npy`` …

    The truth holds ``x``, ``y`` and ``flux`` of the stars of both, and ``x2``, ``y2`` where they are on the second.
    """
    import math

    import numpy as np

    from larun import simulate

    shape, margin = (size.side, size.side), 0.1 * size.side
    rng = np.random.default_rng(29)
    count = round(size.stars * 1.2**2)
    x, y = rng.uniform(-margin, size.side + margin, (2, count))
    flux = 10 ** rng.uniform(3.0, 5.5, count)
    turn = math.radians(3.0)
    c, s = math.cos(turn), math.sin(turn)
    x2, y2 = c * x - s * y + 0.043 * size.side + 0.3, s * x + c * y - 0.037 * size.side + 0.6
    for name, u, v, seed in (("", x, y, 1), ("2", x2, y2, 2)):
        light = simulate.render(shape, u, v, flux, fwhm=FWHM, beta=BETA)
        data = simulate.noisy(light + SKY, read_noise=READ_NOISE, rng=np.random.default_rng(seed))
        np.save(folder / f"data{name}.npy", data)
        np.save(folder / f"variance{name}.npy", (np.maximum(data, 0) + READ_NOISE**2).astype(np.float32))
    np.savez(folder / "truth.npz", x=x, y=y, flux=flux, x2=x2, y2=y2)


def calibrated(folder: Path) -> Any:
    """The image of :func:`scene` as a ``larun.Frame`` in electrons."""
    import numpy as np

    import larun

    return larun.Frame.from_arrays(
        np.load(folder / "data.npy"),
        variance=np.load(folder / "variance.npy"),
        unit="electron",
        gain=1.0,
        read_noise=READ_NOISE,
        saturation=1e6,
    )


def raw_image(folder: Path, size: Size) -> None:
    """A raw uint16 frame ``raw.fits`` with overscan, and masters ``bias.fits``, ``dark.fits``, ``flat.fits``."""
    import numpy as np

    import larun

    night(folder / "night", Size(size.side, frames=1, stars=size.stars), masters=3)
    (folder / "night" / "science-V-001.fits").rename(folder / "raw.fits")
    files = {kind: sorted((folder / "night").glob(f"{kind}-*.fits")) for kind in ("bias", "dark", "flat")}
    (folder / "masters").mkdir()
    bias = larun.MasterBias.combine(files["bias"])
    dark = larun.MasterDark.combine(files["dark"], bias=bias)
    flat = larun.MasterFlat.combine(files["flat"], bias=bias, dark=dark)
    for name, master in (("bias", bias), ("dark", dark), ("flat", flat)):
        master.write(folder / "masters" / f"{name}.fits")
        np.save(folder / f"{name}.npy", master.data)
        np.save(folder / f"{name}-sigma.npy", master.uncertainty)


def night(folder: Path, size: Size, *, masters: int | None = None) -> None:
    """A raw night: ``size.frames`` each of bias, dark, flat and science; or ``masters`` of the first three."""
    from larun import simulate

    count = size.frames if masters is None else masters
    exposure = 60.0
    options = simulate.NightOptions(
        camera=simulate.Camera(
            shape=(size.side, size.side), filters=("V",), read_noise=READ_NOISE, pixel_scale=0.6, saturation=60000.0
        ),
        biases=count,
        darks=count,
        dark_exposures=(exposure,),
        flats=count,
        frames=size.frames,
        exposure=exposure,
        star_density=size.stars / (size.side**2 * 1e-6),
        magnitudes=(13.0, 20.5),
        zero_points=(23.5,),
        sky=(SKY / exposure,),
        seeing=FWHM,
        beta=BETA,
        cosmic_rate=180 / exposure,
        new_source=None,
    )
    simulate.simulate_night(folder, seed=5, options=options)
