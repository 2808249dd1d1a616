"""The pictures of the guide, drawn from the real data: ``python docs/make_guide.py pictures``."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from make_pictures import save
from matplotlib import pyplot as plt

import larun
from larun import plots, simulate
from larun.algorithms.overscan import OverscanOptions, overscan_level

BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"


def _row(count: int, width: float = 3.4, height: float = 3.7) -> tuple[plt.Figure, np.ndarray]:
    return plt.subplots(1, count, figsize=(width * count, height), layout="constrained")


def simulated() -> plt.Figure:
    """The kinds of frames of a simulated camera."""
    camera = simulate.Camera(
        shape=(256, 256), gain=1.6, read_noise=6.0, dark_rate=0.05, dead_columns=(61,), filters=("V",)
    )
    rng = np.random.default_rng(4)
    chip = camera.chip(seed=4)
    stars = simulate.draw_stars((256, 256), count=60, rng=rng, faintest=2e3, brightest=1e6, slope=0.5)
    light = simulate.photons((simulate.render((256, 256), *stars, fwhm=4.0) + 1500.0) * chip.response["V"], rng=rng)
    none = simulate.raw_bias(camera, chip, rng=rng).data
    science = none + np.pad(light / camera.gain, ((0, 0), (0, 32)))
    shown = {
        "bias": none,
        "dark, 600 s": simulate.raw_dark(camera, chip, exposure=600, rng=rng, cosmics=40).data,
        "flat": simulate.raw_flat(camera, chip, band="V", level=20000, rng=rng).data,
        "science": np.minimum(science, 60000),
    }
    figure, axes = _row(4, 3.0, 3.2)
    for ax, (title, data) in zip(axes, shown.items(), strict=True):
        stretch = "zscale" if title in ("bias", "dark, 600 s") else "asinh"
        window = ((0, 256), (0, 256)) if title == "flat" else None  # the overscan is no part of its range
        plots.show(np.asarray(data, np.float32), ax, stretch=stretch, window=window).set_title(title)
    for ax in axes[1:]:
        ax.set_ylabel("")
    return figure


def nickel_raw(raws: dict[str, larun.Frame]) -> plt.Figure:
    """Bias, flat and science frame of the Nickel."""
    figure, axes = _row(3)
    for ax, name, title in zip(axes, ("d1001", "d1036", "d1059"), ("bias", "sky flat, 6 s", "M13, 60 s"), strict=True):
        stretch = "asinh" if name == "d1059" else "zscale"
        plots.show(raws[name], ax, stretch=stretch, coordinates="pixel").set_title(f"{name}: {title}")
    for ax in axes[1:]:
        ax.set_ylabel("")
    return figure


def overscan(raws: dict[str, larun.Frame]) -> plt.Figure:
    """The level through the night, and along the rows of one frame."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.9), layout="constrained")
    colours = {"bias": BLUE, "flat": GREEN, "science": RED}
    markers = {"bias": "o", "flat": "s", "science": "^"}
    for kind, colour in colours.items():
        times, levels = [], []
        for frame in raws.values():
            if frame.kind == kind:
                pixels = frame.data[frame.detector.amplifiers[0].overscan.slices]
                found = overscan_level(pixels, np.zeros(pixels.shape, bool), options=OverscanOptions())
                times.append((frame.time.mid.jd - 2460443.5) * 24)
                levels.append(found.level[0])
        left.plot(times, levels, markers[kind], color=colour, ms=5, label=kind)
    left.set(xlabel="hours UTC on 2024-05-13", ylabel="overscan level (ADU)", title="Level of each frame")
    left.legend()
    frame = raws["d1074"]
    pixels = frame.data[frame.detector.amplifiers[0].overscan.slices]
    rows = np.arange(len(pixels))
    means = np.median(pixels[:, 4:], axis=1)
    right.plot(rows, means, ".", color="0.75", ms=2, label="median of each row")
    blocks = means.reshape(64, 16).mean(axis=1)
    right.plot(rows.reshape(64, 16).mean(axis=1), blocks, "o", color="0.3", ms=3, label="mean of 16 rows")
    for options, label, colour in (
        (OverscanOptions(), "median", BLUE),
        (OverscanOptions(method="polynomial", degree=3), "polynomial, degree 3", RED),
        (OverscanOptions(method="spline", pieces=8), "spline, 8 pieces", GREEN),
    ):
        found = overscan_level(pixels, np.zeros(pixels.shape, bool), options=options)
        right.plot(rows, found.level, color=colour, lw=1.6, label=label)
    right.set(xlabel="row", ylabel="overscan (ADU)", ylim=(978, 1003), title="d1074, 600 s")
    right.legend(fontsize="small", loc="lower center")
    return figure


def combining(data: Path, raws: dict[str, larun.Frame], bias: larun.MasterBias) -> plt.Figure:
    """Ten values of one pixel, and what is left between two masters."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.9), layout="constrained")
    levels = {item["name"][:5]: item["overscan"][0]["level"] for item in bias.provenance.step.fitted["frames"]}
    values = np.array([raws[name].data[774, 683] - level for name, level in sorted(levels.items())])
    left.plot(range(1, 11), values, "o", color="0.2", label="value in each frame")
    left.axhline(values.mean(), color=RED, label=f"mean {values.mean():.0f}")
    left.axhline(np.median(values), color=BLUE, ls="--", label=f"median {np.median(values):.1f}")
    left.axhline(bias.data[774, 683], color=GREEN, label=f"clipped mean {bias.data[774, 683]:.1f}")
    left.set_yscale("symlog", linthresh=50)
    left.set(xlabel="bias frame", ylabel="above overscan (ADU)", title="Pixel (683, 774)", ylim=(-5, 5000))
    left.legend(fontsize="small", loc="center right")
    paths = [data / "nickel" / f"d10{number:02}.fits.fz" for number in range(1, 11)]
    bins = np.linspace(-40, 40, 161)
    for method, colour in (("mean", RED), ("median", BLUE), ("clipped", GREEN)):
        one, two = (larun.MasterBias.combine(part, method=method) for part in (paths[0::2], paths[1::2]))
        rest = (one.data - two.data)[(one.flags | two.flags) == 0]
        right.hist(rest, bins, histtype="step", color=colour, lw=1.4, label=f"{method}, σ = {rest.std():.2f} ADU")
    right.set_yscale("log")
    right.set(xlabel="difference of two masters of 5 frames (ADU)", ylabel="pixels")
    right.legend(fontsize="small")
    return figure


def dark(data: Path) -> plt.Figure:
    """A part of the master dark, and of a light before and after."""
    night = larun.Night(data / "tres1")
    master = larun.MasterDark.combine(item.path for item in night.of("dark"))
    light = larun.Frame.read(data / "tres1" / "tres1-120.fit.fz")
    window = ((480, 780), (180, 480))
    figure, axes = _row(3)
    plots.show(master, axes[0], window=window, stretch="zscale").set_title("master dark (adu)")
    plots.show(light, axes[1], window=window).set_title("raw (adu)")
    plots.show(light.calibrate(master), axes[2], window=window, flags=True).set_title("calibrated, bad pixels")
    for ax in axes[1:]:
        ax.set_ylabel("")
    return figure


def sky(frame: larun.Frame, bias: larun.MasterBias, masters: larun.Masters) -> plt.Figure:
    """The sky of the long exposure without and with the flat, on one scale."""
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.9), layout="constrained")
    images = frame.calibrate(bias, without=("flat",)), frame.calibrate(masters)
    for ax, image, title in zip(axes, images, ("without the flat", "with the flat"), strict=True):
        level = image.background().level
        drawn = ax.imshow(
            100 * (level / np.median(level) - 1), origin="lower", cmap="RdBu_r", vmin=-10, vmax=10, aspect="equal"
        )
        ax.set(xlabel="x (pixel)", title=title)
    axes[0].set_ylabel("y (pixel)")
    figure.colorbar(drawn, ax=axes, label="sky against its median (%)")
    return figure


def science(raw: larun.Frame, frame: larun.Frame) -> plt.Figure:
    """M13 before and after."""
    figure, axes = _row(2, 4.6, 4.2)
    plots.show(raw, axes[0], coordinates="pixel", colorbar=True).set_title("raw")
    plots.show(frame, axes[1], coordinates="pixel", colorbar=True).set_title("calibrated")
    axes[1].set_ylabel("")
    return figure


def rays(frame: larun.Frame, window: tuple[tuple[int, int], tuple[int, int]]) -> plt.Figure:
    """A part of the long exposure: before, flags, after."""
    clean = frame.clean()
    figure, axes = _row(3)
    plots.show(frame, axes[0], window=window).set_title("calibrated")
    plots.show(clean, axes[1], window=window, flags=True).set_title("flags")
    plots.show(clean, axes[2], window=window).set_title("clean")
    for ax in axes[1:]:
        ax.set_ylabel("")
    return figure


def draw_all(data: Path, out: Path) -> None:
    """Draw every picture of the guide into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    night = larun.Night(data / "nickel")
    raws = {item.path.name[:5]: larun.Frame.read(item.path) for item in night.files}
    masters = night.masters()
    bias, flat = masters.of("bias")[0], masters.of("flat")[0]
    assert isinstance(bias, larun.MasterBias)
    m13 = raws["d1059"].calibrate(masters)
    sources = m13.clean().detect()
    save(simulated(), out / "simulated.png", dpi=75)
    save(nickel_raw(raws), out / "nickel-raw.png", dpi=75)
    save(overscan(raws), out / "overscan.png", dpi=80)
    save(combining(data, raws, bias), out / "combining.png", dpi=80)
    save(plots.show_master(bias), out / "master-bias.png", dpi=65)
    save(dark(data), out / "dark.png", dpi=75)
    save(plots.show_master(flat), out / "flat.png", dpi=65)
    sky(raws["d1074"], bias, masters).savefig(out / "sky.png", dpi=75, bbox_inches="tight")
    save(science(raws["d1059"], m13), out / "science.png", dpi=75)
    save(rays(raws["d1074"].calibrate(masters), ((380, 680), (380, 680))), out / "cosmic-rays.png", dpi=75)
    figure, ax = plt.subplots(figsize=(6, 6), layout="constrained")
    plots.show(sources.image, ax, catalog=sources, window=((560, 860), (120, 420)))
    save(figure, out / "m13.png", dpi=75)
    lonely = raws["d1047"].calibrate(masters).clean().detect().photometer()
    save(plots.show_growth(lonely).figure, out / "growth.png", dpi=80)
