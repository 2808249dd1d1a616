"""Draw the pictures of the README and of the documentation: ``python docs/make_pictures.py``.

``docs/images/chain.png`` comes from a simulated night. Where ``LARUN_DATA`` names a folder of real data that holds the
Nickel night, its frame of M13 is drawn too, for looking at: into ``docs/_build/``, which is not kept.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from PIL import Image  # comes with matplotlib

import larun
from larun import plots, simulate

HERE = Path(__file__).parent


def chain(frame: larun.Frame, masters: larun.Masters, window: tuple[tuple[int, int], tuple[int, int]]) -> plt.Figure:
    """Raw, calibrated and clean with its sources, side by side."""
    clean = frame.calibrate(masters).clean()
    sources = clean.detect()
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.9), layout="constrained")
    plots.show(frame, axes[0]).set_title("raw")
    plots.show(clean, axes[1]).set_title("calibrate().clean()")
    plots.show(clean, axes[2], catalog=sources).set_title(f"detect(): {len(sources)} sources")
    for ax in axes:
        ax.set_xlim(*window[0])
        ax.set_ylim(*window[1])
    return figure


def save(figure: plt.Figure, path: Path) -> None:
    """As a PNG of 48 colours: noise does not compress, and 200 kB are enough for a page."""
    figure.savefig(path, dpi=90)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(48, dither=Image.Dither.NONE).save(path, optimize=True)


def simulated() -> None:
    """The picture of the README."""
    with TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        options = simulate.NightOptions(frames=1, dark_exposures=(3, 60), star_density=1500, cosmic_rate=5)
        simulate.simulate_night(raw, seed=7, shape=(512, 512), options=options)
        masters = larun.Night(raw).masters()
        figure = chain(larun.Frame.read(raw / "science-V-001.fits"), masters, ((60, 360), (120, 420)))
        save(figure, HERE / "images" / "chain.png")


def m13(data: Path) -> None:
    """The same for a real frame."""
    masters = larun.Night(data / "nickel").masters()
    figure = chain(larun.Frame.read(data / "nickel" / "d1059.fits.fz"), masters, ((300, 700), (300, 700)))
    (HERE / "_build").mkdir(exist_ok=True)
    save(figure, HERE / "_build" / "m13.png")


if __name__ == "__main__":
    warnings.simplefilter("ignore", larun.errors.LarunWarning)
    simulated()
    if "LARUN_DATA" in os.environ:
        m13(Path(os.environ["LARUN_DATA"]))
