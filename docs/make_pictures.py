"""Draw the pictures of the README and of the documentation: ``python docs/make_pictures.py``.

All in ``docs/images/`` come from a simulated night. Where ``LARUN_DATA`` names a folder of real data that holds the
Nickel night, its frame of M13 is drawn too, for looking at: into ``docs/_build/``, which is not kept.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from astropy.io import fits
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
    """The pictures of the pages about pictures and about lineage."""
    sources = frame.detect().photometer()
    (HERE / "images" / "record.svg").write_text(sources.provenance.to_svg(), encoding="utf-8")
    figure = plt.figure(figsize=(6.5, 6.5), layout="constrained")
    plots.show(frame, figure, catalog=sources, flags=True, colorbar=True, window=((60, 260), (120, 320)))
    save(figure, HERE / "images" / "plots-frame.png")
    save(plots.show_master(masters.of("flat")[0]), HERE / "images" / "plots-master.png", dpi=70)
    figure = plt.figure(figsize=(13, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.4, 1))
    plots.show_catalog(sources, left)
    plots.show_growth(sources, right)
    save(figure, HERE / "images" / "plots-catalog.png", dpi=75)


def gallery(
    pictures: dict[str, np.ndarray],
    columns: int,
    spread: tuple[float, float],
    limits: dict[str, tuple[float, float]] | None = None,
) -> plt.Figure:
    """Arrays with titles, in grey between two percentiles or the limits given."""
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.7 * columns, 2.9 * rows), layout="constrained", squeeze=False)
    for ax, (title, image) in zip(axes.flat, pictures.items(), strict=True):
        low, high = (limits or {}).get(title) or np.percentile(image, spread)
        ax.imshow(image, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        ax.set_title(title, fontsize=10)
        ax.set_xticks([])
        ax.set_yticks([])
    return figure


def shapes() -> None:
    """Simulated stars of several shapes."""
    g1, g2 = simulate.shear(0.6, 30.0)
    moffat = simulate.Moffat(4.0, 3.0)
    donut = simulate.Donut(11.0, 0.4, simulate.Gaussian(2.5))
    drawn = {
        "Moffat": moffat,
        "Stretched": simulate.Stretched(moffat, g1=g1, g2=g2),
        "Trailed": simulate.Trailed(moffat, dx=12.0, dy=-6.0),
        "Donut": donut,
        "Trailed(Donut)": simulate.Trailed(donut, dx=8.0, dy=4.0),
    }
    pictures = {
        title: np.sqrt(simulate.render_profile((49, 49), [24.0], [24.0], [1.0], profile=profile))
        for title, profile in drawn.items()
    }
    field = simulate.Varying(
        simulate.Moffat(3.5, 3.0),
        shape=(161, 161),
        size=[(0, 0, 1.0), (2, 0, 0.3), (0, 2, 0.3)],
        g1=[(2, 0, 0.25), (0, 2, -0.25)],
        g2=[(1, 1, 0.5)],
    )
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(16, 144, 5), np.linspace(16, 144, 5)))
    light = simulate.render_profile((161, 161), x, y, np.ones(25), profile=field)
    pictures["Varying"] = np.sqrt(light)
    save(gallery(pictures, 6, (0.0, 99.9)), HERE / "images" / "simulate-stars.png", dpi=70)


def faults() -> None:
    """What the faults of a simulated camera look like."""
    shape, rng = (200, 200), np.random.default_rng(2)
    camera = simulate.Camera(shape=shape, filters=("V",), overscan=20, dead_columns=(61,))
    base = simulate.NightOptions(camera=camera, zero_points=(23.5,), sky=(20.0,), frames=1, star_density=1500)
    wrong = simulate.Faults(
        fringes=(0.06,), satellites=3.0, bad_columns=4, glow=6.0, light_leak=3.0, pickup=10.0, dust_shift=15.0
    )
    options = attrs.evolve(base, faults=wrong, conditions=simulate.Conditions(sky_gradient=(0.05, 0.05)))
    with TemporaryDirectory() as folder:
        truth = simulate.simulate_night(Path(folder) / "raw", seed=1, options=options)
        science, flat = truth.select("object")[0], truth.select("flat")[0]
        read = {kind: fits.getdata(truth.select(kind)[-1].path).astype(float) for kind in ("bias", "dark", "object")}
        moved = truth.chip(science).response["V"] / np.maximum(truth.chip(flat).response["V"], 1e-3)
    amplifiers, halves = [], (0, 100)
    for n, (y, x) in enumerate((y, x) for y in halves for x in halves):
        data = larun.Section(y, y + 100, x + (24 if x else 0), x + 100 + (24 if x else 0))
        overscan = larun.Section(y, y + 100, 112 if x else 100, 124 if x else 112)
        amplifiers.append(
            larun.Amplifier(data=data, overscan=overscan, gain=1.5 + 0.06 * n, read_noise=5.0, name=str(n))
        )
    detector = larun.Detector(amplifiers=amplifiers)
    stars = simulate.draw_stars(shape, count=30, rng=rng, faintest=3e3, brightest=2e6, slope=0.5)
    light = simulate.render(shape, *stars, fwhm=3.0) + 300.0
    leak = 0.004 * (1 - np.eye(4))
    electrons = simulate.photons(simulate.crosstalk(detector, light, leak=leak), rng=rng)
    four = simulate.read_out(detector, electrons, rng=rng, bias_levels=(900.0, 940.0, 920.0, 960.0))
    colours = simulate.bayer((40, 40), "RGGB", {"R": 0.6, "G": 1.0, "B": 0.7})
    star = simulate.render((40, 40), [20.0], [19.0], [2e4], fwhm=5.0) + 200.0
    pictures = {
        "fringes, trails, sky gradient": read["object"][:, :200],
        "dark: glow, leak, hot pixels": read["dark"],
        "bias: pickup": read["bias"],
        "science / flat: dust moved": moved,
        "four amplifiers, crosstalk": four.astype(float),
        "RGGB filters, a star": simulate.photons(star * colours, rng=rng),
    }
    limits = {"science / flat: dust moved": (0.95, 1.05)}
    save(gallery(pictures, 3, (2.0, 98.0), limits), HERE / "images" / "simulate-faults.png", dpi=75)


def aligned() -> None:
    """Two frames in two colours, before and after: the picture of the page on alignment."""
    with TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        options = simulate.NightOptions(frames=2, dither=14.0, star_density=900, cosmic_rate=1)
        simulate.simulate_night(raw, seed=4, shape=(400, 400), options=options)
        masters = larun.Night(raw).masters()
        first, second = (
            larun.Frame.read(raw / f"science-V-00{number}.fits").calibrate(masters).clean() for number in (1, 2)
        )
        after = second.align_to(first)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.5), layout="constrained")
    for ax, other, title in ((axes[0], second, "two frames"), (axes[1], after, "the second by align_to(first)")):
        picture = np.zeros((*first.shape, 3))
        for image, name in ((first, "#D55E00"), (other, "#2AA1FF")):
            sky = image.background()
            light = np.arcsinh(np.nan_to_num(image.data - sky.level) / (4 * sky.rms)).clip(0, 3) / 3
            picture += light[..., None] * np.array(ImageColor.getrgb(name)) / 255
        ax.imshow(picture.clip(0, 1)[60:340, 60:340], origin="lower", interpolation="nearest")
        ax.set_title(title, fontsize=10)
        ax.set_xticks([])
        ax.set_yticks([])
    path = HERE / "images" / "align.png"
    figure.savefig(path, dpi=80, bbox_inches="tight")
    with Image.open(path) as drawn:
        few = drawn.convert("RGB").quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


def m13(data: Path) -> None:
    """The same for a real frame."""
    masters = larun.Night(data / "nickel").masters()
    figure = chain(larun.Frame.read(data / "nickel" / "d1059.fits.fz"), masters, ((300, 700), (300, 700)))
    (HERE / "_build").mkdir(exist_ok=True)
    save(figure, HERE / "_build" / "m13.png")


if __name__ == "__main__":
    warnings.simplefilter("ignore", larun.errors.LarunWarning)
    simulated()
    shapes()
    faults()
    aligned()
    if "LARUN_DATA" in os.environ:
        m13(Path(os.environ["LARUN_DATA"]))
