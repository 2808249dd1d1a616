"""Facts about frames that were never taken: stars, sky and shapes of a night as numbers, in a moment."""

from types import SimpleNamespace

import numpy as np

from larun.model.checks.facts import FrameFacts, StarFacts
from larun.model.checks.material import Material
from larun.model.checks.skyfacts import SkyFacts
from larun.model.masters import Masters
from larun.model.recipe import Recipe

SHAPE = (1024, 1024)


class Sky:
    """A field of stars with colours."""

    def __init__(self, rng, *, count=250, name="M 13", center=(202.5, 18.0)):
        self.rng, self.name, self.center = rng, name, center
        self.x, self.y = rng.uniform(-60, SHAPE[1] + 60, (2, count))
        self.rate = 10 ** rng.uniform(1.5, 4.0, count)
        self.color = rng.normal(0.46, 0.18, count)  # ln of the ratio of R and V

    def frame(self, name, **changes):
        """A frame of it, as a clean night has it, and what is changed about it."""
        rng = self.rng
        given = {"filter": "V", "exposure": 60.0, "light": 1.0, "fwhm": 3.0 * np.exp(0.08 * rng.standard_normal())}
        given |= {"offset": rng.uniform(-12, 12, 2), "sky": 4.0 * rng.uniform(0.9, 1.1), "shear": 0.0, "seen": None}
        given |= {
            "minutes": 0.0,
            "airmass": 1.2,
            "gradient": (0.05, 0.02),
            "cosmic": None,
            "streaks": (),
            "shown": None,
        }
        given |= {"hollow": 0.0, "object": self.name, "center": self.center}
        given |= changes
        look, exposure = given["shown"] or self, given["exposure"]
        seen = given["seen"] or given["filter"]
        rate = look.rate * given["light"] * (np.exp(look.color) if seen == "R" else 1.0)
        truly = given.get("truly", exposure)
        x, y = look.x + given["offset"][0], look.y + given["offset"][1]
        inside = (x > 5) & (x < SHAPE[1] - 5) & (y > 5) & (y < SHAPE[0] - 5)
        electrons = rate[inside] * truly
        error = np.sqrt(electrons + 60 * (given["sky"] * truly + 36))
        flux = electrons + error * rng.standard_normal(len(error))
        order = np.argsort(-flux)
        order = order[flux[order] > 5 * error[order]]
        count = len(order)
        shape = given["shear"] + 0.06 * (rng.standard_normal(count) + 1j * rng.standard_normal(count)) / np.sqrt(2)
        stars = StarFacts(
            x=x[inside][order] + 0.05 * rng.standard_normal(count),
            y=y[inside][order] + 0.05 * rng.standard_normal(count),
            flux=flux[order],
            flux_error=error[order],
            snr=flux[order] / error[order],
            fwhm=given["fwhm"] * (1 + 0.03 * rng.standard_normal(count)),
            ellipticity=np.abs(shape),
            theta=np.rad2deg(np.angle(shape)) / 2,
            masters_error=np.zeros(count),
        )
        level = given["sky"] * truly
        cells = (level + rng.normal(0, np.sqrt(level + 36) / 8, (128, 128))).astype(np.float32)
        sky = SkyFacts(level, float(np.sqrt(level + 36)), cells, 8, given["gradient"], given["streaks"])
        cosmic = rng.poisson(0.5 * truly) * 4 if given["cosmic"] is None else given["cosmic"]
        mean = complex(np.mean(shape[: count // 2]))
        return FrameFacts(
            name=name,
            shape=SHAPE,
            filter=given["filter"],
            object=given["object"],
            exposure=exposure,
            mid_jd=2461114.2 + given["minutes"] / 1440,
            airmass=given["airmass"],
            center=given["center"],
            scale=0.6,
            sources=count,
            saturated=0,
            cosmic_pixels=int(cosmic),
            fwhm=float(given["fwhm"]),
            ellipticity=float(np.median(np.abs(shape[: count // 2]))),
            theta=float(np.rad2deg(np.angle(mean)) / 2),
            alignment=abs(mean),
            hollow=given["hollow"],
            stars=stars,
            sky=sky,
            noise=SimpleNamespace(sample=SimpleNamespace(shared=0.0)),
        )


def material(facts):
    """A night of which only these facts are known."""
    from larun.model.frame import Frame

    return Material(exposures=(), recipe=Recipe(), camera=Frame, masters=Masters(()), facts=tuple(facts))


def clean(rng, *, frames=5, filters=("V", "R"), count=250, **changes):
    """The frames of a clean night: seeing, dithers, a sky that brightens, air mass, thin losses of light."""
    field = Sky(rng, count=count)
    made = []
    for number in range(frames * len(filters)):
        band = filters[number // frames]
        given = {"filter": band, "minutes": 1.4 * number, "airmass": 1.1 + 0.02 * number}
        given |= {"sky": (4.0 if band == "V" else 6.0) * rng.uniform(0.9, 1.1) * (1 + 0.01 * number)}
        given |= {"light": (1 - 0.05 * rng.random()) * 10 ** (-0.4 * 0.2 * 0.02 * number)}
        made.append((f"science-{band}-{number % frames + 1:03d}", given))
    return [field.frame(name, **{**given, **changes.get(name, {})}) for name, given in made]
