"""Nights as the tests of a check see them, without a reduction."""

import warnings
from pathlib import Path

from larun.errors import LarunWarning
from larun.model.checks.material import Material
from larun.model.frame import Frame
from larun.model.masters import Masters
from larun.model.night import Night
from larun.model.recipe import Recipe
from larun.simulate import Camera, NightOptions, simulate_night

SHAPE = (128, 128)


def material_of(folder: Path, recipe: Recipe | None = None, masters: bool = False, **given) -> Material:
    """The raw files of a folder, with or without masters made of them."""
    recipe = recipe or Recipe()
    night = Night(folder, given=given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        made = night.masters(recipe=recipe) if masters else Masters(())
    known = recipe.evolve(keywords={**recipe.keywords, **given})
    return Material(exposures=night.files, recipe=known, camera=Frame, masters=made, facts=())


def options(camera: dict | None = None, **values) -> NightOptions:
    """A short night of a small camera."""
    usual = {"shape": SHAPE, "overscan": 16, "filters": ("V",)} | (camera or {})
    quiet = {"biases": 6, "darks": 3, "flats": 4, "frames": 1, "dark_exposures": (60.0,), "star_density": 200.0}
    made = quiet | {"zero_points": (23.5,), "sky": (4.0,), "new_source": None} | values
    return NightOptions(camera=Camera(**usual), **made)


def night(folder: Path, seed: int = 1, camera: dict | None = None, **values) -> Path:
    """Write one."""
    simulate_night(folder, seed=seed, options=options(camera, **values))
    return folder


def edit(folder: Path, pattern: str = "*.fits", **cards) -> None:
    """Change cards of headers."""
    from astropy.io import fits

    for path in sorted(folder.glob(pattern)):
        with fits.open(path, mode="update") as file:
            for keyword, value in cards.items():
                file[0].header[keyword] = value
