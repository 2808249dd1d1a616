"""Whether the story of every flagged pixel is what was simulated.

``python -m tests.model.replay.agreement [SEED …]`` tells the story of all flagged pixels of frames and masters of
several nights and counts those with a reason that is not true, or without one that is; tests do so for a sample.
"""

import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import attrs
import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation

import larun
from larun.errors import LarunWarning
from larun.model.replay.telling import tell
from larun.model.replay.windows import Windows
from larun.simulate import Camera, NightOptions, simulate_night
from larun.simulate.damage import Damage
from larun.simulate.options import Faults

OPTIONS = NightOptions(
    camera=Camera(shape=(160, 176), dead_columns=(40,), overscan=24),
    biases=5,
    darks=4,
    flats=4,
    frames=2,
    dark_exposures=(60.0,),
    star_density=1800.0,
    magnitudes=(12.5, 20.5),
    dither=3.0,
    cosmic_rate=40.0,
    faults=Faults(bad_columns=2, telegraph=0.002, telegraph_step=(200.0, 4000.0)),
)
LIMIT = 38000.0  # ADU: what the headers say of linearity
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


@attrs.frozen
class Spoilt:
    """A simulated night with more wrong in it than the simulator makes, and where.

    Every mask is (ny, nx): ``full`` reads full scale in all frames, ``dead`` sees no light, ``lost`` holds for each
    kind of frame the pixels without a value in all its frames, ``bled`` for each science frame where a star bled to.
    """

    truth: object
    full: np.ndarray
    dead: np.ndarray
    lost: dict
    bled: dict
    given: dict

    def raw(self, frame):
        """Counts of a raw frame, as the file has them."""
        with fits.open(frame.path) as file:
            return np.asarray(file[0].data, float)[self.truth.camera.data_section.slices]


def spoilt_night(folder, seed, *, masked=False):
    """Simulate a night and spoil its files."""
    truth = simulate_night(Path(folder) / "raw", seed=seed, options=OPTIONS)
    rng, shape = np.random.default_rng(seed), OPTIONS.camera.shape

    def some(count):
        mask = np.zeros(shape, bool)
        mask.flat[rng.choice(mask.size, count, replace=False)] = True
        return mask

    full, dead = np.zeros(shape, bool), some(12)
    full[:, 90] = True
    kinds = ("bias", "dark", "flat", "object")
    lost, bled = {kind: some(8) for kind in kinds}, {}
    for kind in kinds:
        for frame in truth.select(kind):
            with fits.open(frame.path, mode="update") as file:
                header, part = file[0].header, file[0].data[OPTIONS.camera.data_section.slices]
                header["MAXLIN"] = LIMIT
                header["BLANK"] = -32768
                if kind in ("flat", "object"):
                    part[dead] = round(frame.bias_level)
                if kind == "object":
                    bled[frame.path.name] = _bleed(part, OPTIONS.camera.saturation)
                part[full] = 65535
                part[lost[kind]] = 0  # as BLANK says, with BZERO = 32768
    given = {name: some(20) if masked else np.zeros(shape, bool) for name in ("masters", "frames")}
    if masked:
        given["masters"][100:104, 20:24] = True
        for name, mask in given.items():
            fits.writeto(Path(folder) / f"{name}.fits", mask.astype(np.int16))
    return Spoilt(truth, full, dead, lost, bled, given)


def _bleed(part, saturation):
    """Let full wells spill over along their columns."""
    wells = part >= saturation
    spilt = np.zeros(part.shape, bool)
    for column in np.flatnonzero(wells.sum(axis=0) >= 2):
        rows = np.flatnonzero(wells[:, column])
        spilt[max(rows[0] - 12, 0) : rows[-1] + 13, column] = True
    part[spilt] = saturation
    return spilt & ~wells


def truly(night, frame):
    """Of every reason that can be given: where it is true. Of ``frame``; None for masters."""
    truth, camera = night.truth, night.truth.camera
    damage = Damage.of(camera, truth.options.faults, truth.seed)
    switching = np.zeros(camera.shape, bool)
    switching.flat[damage.telegraph.pixels] = True
    rays = sum(truth.cosmics(dark) > 0 for dark in truth.select("dark"))
    excess = truth.chip().hot | switching | (rays > 0)
    given = night.given["masters"] | night.given["frames"]
    bad = excess | switching | night.full | night.lost["bias"] | night.lost["dark"] | given
    found = {
        ("BAD", "master_bias", "offset"): switching,
        ("BAD", "master_bias", "raw counts"): night.full & ~night.lost["bias"],
        ("BAD", "master_bias", "no value"): night.lost["bias"],
        ("BAD", "master_dark", "excess"): excess,
        ("BAD", "master_dark", "no value"): night.lost["dark"],
        ("FLAT_INVALID", "master_flat", "bad in a master"): bad,
        ("FLAT_INVALID", "master_flat", "no value"): night.lost["flat"],
        ("FLAT_INVALID", "master_flat", "sensitivity"): (damage.factor < 1) | night.dead | dead_columns(camera),
        **{
            ("BAD", step, "given mask"): night.given["masters"]
            for step in ("master_bias", "master_dark", "master_flat")
        },
    }
    lost = night.lost["bias"] | night.full, bad, bad | night.lost["flat"]
    for kind, nothing in zip(("bias", "dark", "flat"), lost, strict=True):
        raws = [night.raw(one) for one in truth.select(kind)]
        found["NO_DATA", f"master_{kind}", "no value"] = nothing
        found["NONLINEAR", f"master_{kind}", "raw counts"] = np.max(raws, axis=0) > LIMIT
        found["SATURATED", f"master_{kind}", "raw counts"] = np.max(raws, axis=0) >= camera.saturation
    if frame is None:
        return found
    raw, lost = night.raw(frame), night.lost["object"]
    # a pixel that switched up is charge that came in this frame alone: a ray, for all that the frame tells
    struck = binary_dilation((truth.cosmics(frame) > 0) | switching, np.ones((3, 3), bool))
    return found | {
        ("COSMIC", "clean", "cosmic ray"): struck,
        ("INTERPOLATED", "clean", "replaced"): struck,
        ("SATURATED", "calibrate", "raw counts"): (raw >= camera.saturation) & ~lost,
        ("NONLINEAR", "calibrate", "raw counts"): (raw > LIMIT) & ~lost,
        ("NO_DATA", "raw", "no value"): lost,
        ("BAD", "calibrate", "given mask"): night.given["frames"],
    }


def dead_columns(camera):
    """The columns that see no light."""
    mask = np.zeros(camera.shape, bool)
    mask[:, list(camera.dead_columns)] = True
    return mask


def certain(night, frame):
    """Reasons that must be given where they are true: those that need no test with noise in it."""
    found = truly(night, frame)
    must = {
        ("BAD", "master_bias", "raw counts"),
        ("BAD", "master_bias", "no value"),
        ("BAD", "master_dark", "no value"),
    }
    must |= {("NO_DATA", "raw", "no value"), ("NONLINEAR", "calibrate", "raw counts")}
    must |= {("BAD", "calibrate", "given mask")}
    return {key: found[key] for key in must if key in found}


def judged(night, product, windows, places):
    """The stories of pixels that are wrong, and how often each reason was given."""
    image, frame, iterations = product
    true, needed = truly(night, frame), certain(night, frame) if frame is not None else {}
    wrong, told = [], Counter()
    for y, x in places:
        story = tell(image, x, y, windows)
        keys = {(reason.flag, reason.step, reason.cause) for reason in story.flags}
        told.update(keys)
        names = set(larun.flags.names_of(int(image.flags[y, x])))
        false = [key for key in keys if key not in true or not true[key][y, x]]
        missing = [key for key, where in needed.items() if where[y, x] and key not in keys]
        found = [
            reason.values["iteration"] for reason in story.flags if reason.step == "clean" and reason.flag == "COSMIC"
        ]
        if found and found != [iterations[y, x]]:
            missing.append(f"iteration {iterations[y, x]}, not {found}")
        if false or missing or story.notes or {key[0] for key in keys} != names:
            wrong.append((false, missing, story))
    return wrong, told


class Product(NamedTuple):
    """A master; or a cleaned frame, its truth, and in which iteration each pixel was called a ray, 0 for never."""

    image: object
    frame: object = None
    iterations: object = None


def products(night):
    """Masters and cleaned frames."""
    folder = night.truth.folder.parent
    known = {name: folder / f"{name}.fits" for name in night.given if (folder / f"{name}.fits").exists()}
    recipe = larun.Recipe(masters={"bad_pixels": known["masters"]}) if known else larun.Recipe()
    masters = larun.Night(night.truth.folder).masters(recipe=recipe)
    yield from (Product(master) for kind in ("bias", "dark", "flat") for master in masters.of(kind))
    for frame in night.truth.select("object"):
        mask = larun.Image.read(known["frames"]) if known else None
        calibrated = larun.Frame.read(frame.path).calibrate(masters, bad_pixels=mask)
        iterations = np.zeros(calibrated.shape, int)
        for number in (4, 3, 2, 1):
            clean = calibrated.clean(iterations=number)
            iterations[(clean.flags & larun.flags.COSMIC) != 0] = number
        yield Product(calibrated.clean(), frame, iterations)


def opened(night):
    """The windows of a night."""
    return Windows([night.truth.folder, *night.truth.folder.parent.glob("*.fits")])


def main(seeds):
    warnings.simplefilter("ignore", LarunWarning)
    larun.set_threads(1)
    total, bad, all_told = 0, 0, Counter()
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            night = spoilt_night(folder, seed, masked=bool(seed % 2))
            windows = opened(night)
            for product in products(night):
                image, frame = product.image, product.frame
                start = time.perf_counter()
                places = np.argwhere(image.flags != 0).tolist()
                wrong, told = judged(night, product, windows, places)
                total, bad = total + len(places), bad + len(wrong)
                all_told += told
                name = type(image).__name__ if frame is None else frame.path.name
                spent = (time.perf_counter() - start) / max(len(places), 1)
                print(f"night {seed} {name}: {len(places)} flagged, {len(wrong)} wrong, {1e3 * spent:.1f} ms a story")
                for false, missing, story in wrong[:3]:
                    print("   false", false, "missing", missing, "\n    ", str(story).replace("\n", "\n      "))
            print("   whole images:", windows.whole, flush=True)
    for key, count in sorted(all_told.items()):
        print(f"{count:7d} {' · '.join(key)}")
    print(f"{total - bad} of {total} agree: {100 * (total - bad) / total:.3f} %")


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [1, 2])
