"""What a light curve says of itself: as lines of text, as plain values, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from larun import flags as fl
from larun.io.atomic import atomic_path
from larun.report.verdict import Check

if TYPE_CHECKING:
    from larun.model.curves.transit import TransitFit
    from larun.model.lightcurve import LightCurve
    from larun.simulate import NightTruth

__all__ = ["compare_light_curve", "facts", "lines", "write"]

_FEWEST = 3  # points of a light curve


def facts(curve: LightCurve, fit: TransitFit | None = None) -> dict[str, Any]:
    """Plain values for JSON."""
    meta = curve.meta
    stars = meta["stars"]
    made: dict[str, Any] = {
        "frames": len(curve.curve()),
        "points": int(curve.good().sum()),
        "targets": curve.targets,
        "comparison_stars": sum(item["used"] for item in stars),
        "rejected_stars": sum(not item["used"] for item in stars[curve.targets :]),
        "target": stars[0],
        **{name: meta[name] for name in ("time", "field", "beta", "excess")},
        **{name: meta[name] for name in ("psf", "aperture", "aperture_chosen") if name in meta},
        **{name: meta[name] for name in ("colour_term", "airmass_line") if name in meta},
        "scintillation": meta["scintillation"],
        "scintillation_note": meta["scintillation_note"],
        "cosmic_rays": meta["cosmic_rays"],
        "flagged": _flagged(curve),
    }
    if fit is not None:
        made["transit"] = {
            "t_mid": fit.t_mid,
            "t_mid_error": fit.t_mid_error,
            "depth": fit.depth,
            "depth_error": fit.depth_error,
            "duration": fit.duration,
            "values": dict(fit.values),
            "errors": dict(fit.errors),
            "trend": dict(fit.trend),
            "beta": fit.beta,
            "chi2": fit.chi2,
            "point_to_point": fit.point_to_point,
            "predicted": fit.predicted,
        }
    return made


def _flagged(curve: LightCurve) -> dict[str, int]:
    """How many points of the first target see each flag."""
    bits = np.asarray(curve.curve()["flags"], np.uint32)
    return {name: count for name, count in fl.counts_of(bits, ()).items() if count}


def lines(curve: LightCurve, fit: TransitFit | None = None) -> list[str]:
    """The same in sentences."""
    made = facts(curve, fit)
    target = made["target"]
    flagged = ", ".join(f"{name} {count}" for name, count in made["flagged"].items())
    said = [
        f"{made['points']} of {made['frames']} points can be trusted" + (f" (flagged: {flagged})" if flagged else ""),
        f"times: {made['time']}",
        _light(made),
        f"comparison stars: {made['comparison_stars']}, {made['rejected_stars']} rejected; zero point of each frame: "
        f"{'a level' if made['field'] == 'constant' else 'a plane over the image'}",
        f"scatter from point to point {_parts(target['point_to_point'])}, noise {_parts(target['predicted'])}; red "
        f"noise of comparison stars: beta {made['beta']:.2f}",
        f"scintillation: {made['scintillation_note']}",
        f"cosmic rays: {made['cosmic_rays']}",
    ]
    if "colour_term" in made:
        term = made["colour_term"]
        said.append(
            f"colour term: {1e3 * term['value']:+.1f} ± {1e3 * term['error']:.1f} mmag for a magnitude of colour and a "
            "unit of air mass"
        )
    if "airmass_line" in made:
        line = made["airmass_line"]
        said.append(f"{line['note']}: {1e3 * line['slopes'][0]:+.2f} ± {1e3 * line['errors'][0]:.2f} ‰ a unit")
    if fit is not None:
        scale = "BJD_TDB" if fit.barycentric else "JD (UTC)"
        said += [
            f"mid-transit: {scale} {fit.t_mid:.5f} ± {fit.t_mid_error:.5f} ({1440 * fit.t_mid_error:.1f} min)",
            f"depth: {100 * fit.depth:.2f} ± {100 * fit.depth_error:.2f} %, Rp/R* {fit.values['radius_ratio']:.4f} ± "
            f"{fit.errors['radius_ratio']:.4f}; {24 * fit.duration:.2f} h from first to last contact",
            f"trend: {', '.join(fit.trend)}; reduced chi-squared {fit.chi2:.2f}, beta {fit.beta:.2f}, "
            f"what is left scatters {_parts(fit.point_to_point)} from point to point",
        ]
    return said


def _light(made: dict[str, Any]) -> str:
    """In what the light was measured."""
    if "psf" in made:
        psf = made["psf"]
        low, high = psf["fwhm"]
        return (
            f"light: by the PSF of each frame ({', '.join(psf['models'])}, FWHM {low:.2f} to {high:.2f} pixels, median "
            f"chi^2 {psf['chi2']:.2f}), {psf['neighbours']} neighbours fitted with the stars"
        )
    aperture = made["aperture"]
    unit = "pixels" if aperture["unit"] == "pixel" else "FWHM of each frame"
    return f"aperture: {aperture['radius']:.3g} {unit} ({made['aperture_chosen']})"


def _parts(value: float | None) -> str:
    return "not known" if value is None else f"{1e3 * value:.2f} ‰"


def compare_light_curve(truth: NightTruth, frames: Path, path: Path) -> tuple[Check, ...]:
    """Make the light curve of the star that varies, in the first filter, and hold it against the truth.

    Parameters
    ----------
    truth : NightTruth
        With a star that varies; without any there is nothing to do.
    frames : Path
        Folder of the calibrated frames.
    path : Path
        Where the light curve goes.
    """
    from larun.model.lightcurve import LightCurve

    band = truth.camera.filters[0]
    science = [about for about in truth.select("object", band) if (frames / f"{about.path.stem}.fits").exists()]
    star = np.asarray(truth.stars["id"]) == truth.variable_star
    if truth.variable_star is None or len(science) < _FEWEST:
        return ()
    paths = [frames / f"{about.path.stem}.fits" for about in science]
    x, y = (values[star] for values in truth.positions(science[0]))
    curve = LightCurve.extract(paths, np.column_stack([x, y]), reference=paths[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    curve.write(path, overwrite=True)
    own, good = curve.curve(), curve.good()
    changes = np.array([about.variable for about in science])[good]
    flux, error = (np.asarray(own[name])[good] for name in ("flux", "flux_error"))
    if len(flux) < _FEWEST:
        return ()
    ratio, weight = flux / changes, (changes / error) ** 2
    away = (ratio / (np.sum(weight * ratio) / np.sum(weight)) - 1) * changes / error
    pull = float(np.sqrt(np.sum(away**2) / (len(away) - 1)))
    found, wanted = (float(np.ptp(values / np.mean(values))) for values in (flux, changes))
    wide = 4 * float(np.mean(error)) + 0.01
    return (
        Check("light curve in its own errors", band, pull, 1.0, 0.02, 3.0, len(flux)),
        Check("range of the star that varies", band, found, wanted, wanted - wide, wanted + wide, len(flux)),
    )


def write(curve: LightCurve, fit: TransitFit | None, path: Path) -> Path:
    """The lines as a file that may be replaced by the next."""
    text = "\n".join(["light curve by larun", *lines(curve, fit)]) + "\n"
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
