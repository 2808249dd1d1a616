"""Small simulated nights for tests of frames and headers, and what may be done to their headers afterwards."""

import shutil
import warnings
from pathlib import Path

from astropy.io import fits

from larun import Frame, Night, SourceCatalog
from larun.errors import LarunWarning
from larun.model.checks.facts import frame_facts
from larun.model.checks.material import Material
from larun.model.masters import Masters
from larun.model.recipe import Recipe
from larun.simulate.night import simulate_night
from larun.simulate.options import NightOptions

SHAPE = (256, 256)


def options(**changes):
    """A night of few frames with many stars."""
    values = {"biases": 4, "darks": 3, "flats": 3, "frames": 4, "star_density": 1500.0, "new_source": None}
    return NightOptions(**{**values, **changes})


def simulated(folder, *, seed=1, shape=SHAPE, **changes):
    """A simulated night without its truth."""
    simulate_night(folder, seed=seed, shape=shape, options=options(**changes))
    shutil.rmtree(Path(folder) / "truth")
    return Path(folder)


def edited(night, folder, cards):
    """A copy of a night in which some files have other cards: ``{"dark-003s-001": {"EXPTIME": 60.0}}``."""
    shutil.copytree(night, folder)
    for name, values in cards.items():
        for keyword, value in values.items():
            fits.setval(folder / f"{name}.fits", keyword, value=value)
    return folder


def raw_material(folder):
    """A night as tests of raw frames see it: nothing is reduced."""
    night = Night(folder)
    return Material(exposures=night.files, recipe=Recipe(), camera=night.camera, masters=Masters(()), facts=())


def reduced(folder, out):
    """A night as its tests see it after its reduction into a folder."""
    night, recipe = Night(folder), Recipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        summary = night.reduce(out, recipe=recipe)
        assert not summary.failed
        facts = []
        for task in night.tasks(out, recipe):
            catalog = SourceCatalog.read(task.catalog_path)
            facts.append(frame_facts(task.name, Frame.read(task.frame_path), catalog))
    masters = Masters.read(out / "masters")
    facts.sort(key=lambda one: one.mid_jd)
    return Material(exposures=night.files, recipe=recipe, camera=night.camera, masters=masters, facts=tuple(facts))


def faults(verdicts):
    """{(status, where): meaning} of what is not good."""
    return {(v.status, v.where): v.meaning for v in verdicts if not v.passed}
