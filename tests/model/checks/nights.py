"""Small simulated nights as the tests of a check see them, with frames that are changed on the way."""

import warnings

from larun import Frame, Night, Recipe
from larun.errors import LarunWarning
from larun.model.checks.facts import frame_facts
from larun.model.checks.material import Material
from larun.model.masters import Masters
from larun.simulate import Camera, NightOptions, simulate_night

__all__ = ["field_options", "material_of", "take"]


def field_options(**changes):
    """One filter, a star field that moves over the chip, nothing wrong."""
    wanted = {
        "camera": Camera(shape=(448, 448), filters=("V",), overscan=24),
        "biases": 8,
        "darks": 4,
        "flats": 6,
        "frames": 6,
        "dark_exposures": (60.0,),
        "zero_points": (23.5,),
        "sky": (4.0,),
        "star_density": 2000.0,
        "dither": 40.0,
        "new_source": None,
    }
    return NightOptions(**(wanted | changes))


def take(folder, seed, **changes):
    """Simulate a night."""
    return simulate_night(folder / "raw", seed=seed, options=field_options(**changes))


def material_of(truth, *, given=None, change=None, recipe=None):
    """What the tests look at; ``change`` is applied to each calibrated frame, ``given`` to every header."""
    given, recipe = given or {}, recipe or Recipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        masters = Night(truth.folder, given=given).masters()
        facts, products = [], {}
        for item in truth.frames:
            if item.kind != "object":
                continue
            frame = recipe.prepare(Frame.read(item.path, **given), masters)
            frame = frame if change is None else change(frame)
            catalog = recipe.measure(frame)
            name = item.path.stem
            facts.append(frame_facts(name, frame, catalog))
            products[name] = lambda frame=frame, catalog=catalog: (frame, catalog)
    return Material(
        exposures=(), recipe=recipe, camera=Frame, masters=Masters(()), facts=tuple(facts), products=products
    )
