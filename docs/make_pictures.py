"""Draw the pictures of the README and of the documentation: ``python docs/make_pictures.py``.

All in ``docs/images/`` come from a simulated night. Where ``LARUN_DATA`` names a folder of real data that holds the
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
from PIL import Image, ImageColor  # comes with matplotlib

import larun
from larun import plots, simulate

HERE = Path(__file__).parent


def chain(frame: larun.Frame, masters: larun.Masters, window: tuple[tuple[int, int], tuple[int, int]]) -> plt.Figure:
    """Raw, calibrated and clean with its sources, side by side."""
    clean = frame.calibrate(masters).clean()
    sources = clean.detect()
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.9), layout="constrained")
    plots.show(frame, axes[0], window=window).set_title("raw")
    plots.show(clean, axes[1], window=window).set_title("calibrate().clean()")
    plots.show(clean, axes[2], window=window, catalog=sources).set_title(f"detect(): {len(sources)} sources in all")
    return figure


def palette() -> Image.Image:
    """Greys, and the colours of the pictures alone and mixed with black, grey and white."""
    colours = [(grey, grey, grey) for grey in (*range(0, 240, 5), 255)]
    for colour in ("#D55E00", "#CC79A7", "#F0E442", "#56B4E9", "#E69F00", "#009E73", "#0072B2"):
        full = ImageColor.getrgb(colour)
        colours += [tuple((3 * part + grey) // 4 for part in full) for grey in (0, 128, 255)]
        colours += [full, *(tuple((part + grey) // 2 for part in full) for grey in (0, 128, 255))]
    made = Image.new("P", (1, 1))
    made.putpalette([part for colour in colours for part in colour])
    return made


def save(figure: plt.Figure, path: Path, dpi: int = 90) -> None:
    """As a PNG of few colours: noise does not compress, and 200 kB are enough for a page."""
    figure.savefig(path, dpi=dpi, bbox_inches="tight")
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(palette=palette(), dither=Image.Dither.NONE).save(path, optimize=True)


def simulated() -> None:
    """The picture of the README."""
    with TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        options = simulate.NightOptions(frames=1, dark_exposures=(3, 60), star_density=1500, cosmic_rate=5)
        simulate.simulate_night(raw, seed=7, shape=(512, 512), options=options)
        masters = larun.Night(raw).masters()
        figure = chain(larun.Frame.read(raw / "science-V-001.fits"), masters, ((60, 360), (120, 420)))
        save(figure, HERE / "images" / "chain.png")
        howto(larun.Frame.read(raw / "science-V-001.fits").calibrate(masters).clean(), masters)


def howto(frame: larun.Frame, masters: larun.Masters) -> None:
    """The pictures of the page about pictures."""
    sources = frame.detect().photometer()
    figure = plt.figure(figsize=(6.5, 6.5), layout="constrained")
    plots.show(frame, figure, catalog=sources, flags=True, colorbar=True, window=((60, 260), (120, 320)))
    save(figure, HERE / "images" / "plots-frame.png")
    save(plots.show_master(masters.of("flat")[0]), HERE / "images" / "plots-master.png", dpi=70)
    figure = plt.figure(figsize=(13, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.4, 1))
    plots.show_catalog(sources, left)
    plots.show_growth(sources, right)
    save(figure, HERE / "images" / "plots-catalog.png", dpi=75)


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
