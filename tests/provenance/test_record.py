"""The record: one step for each outermost call, ids that follow from what decides pixels and from nothing else."""

import copy
import json
import os
import pickle
import subprocess
import sys

import attrs
import numpy as np
import pytest

import larun
from larun.errors import AlreadyApplied, CorruptProduct
from larun.provenance import OPERATIONS, Parent, Provenance, Root, Step, predict

WITHOUT = ("bias", "dark", "flat")


def frame(seed=1, **values):
    counts = np.random.default_rng(seed).poisson(300, (48, 48))
    return larun.Frame.from_arrays(counts, **({"gain": 2.0, "read_noise": 4.0} | values))


def operations(provenance):
    return [node.step.operation for node in provenance.line() if node.step]


def double(image, factor=2.0):
    return image * factor


def prepare(image, masters):
    return image.calibrate(masters, without=("dark", "flat")) + 1.0


def test_one_step_for_each_outermost_call():
    made = frame().calibrate(without=WITHOUT).crop((0, 40), (0, 40)).bin(2) * 2.0
    assert [n.step.operation for n in made.provenance.walk() if n.step] == ["multiply", "bin", "crop", "calibrate"]
    assert all(not node.step.substeps for node in made.provenance.walk() if node.step)
    root = made.provenance.roots()
    assert [r.kind for r in root] == ["memory"]


@pytest.mark.filterwarnings("ignore:.*too few stars to measure their size")
def test_what_an_operation_calls_is_a_substep_and_not_a_step():
    made = frame().pipe(double, factor=3.0)
    assert operations(made.provenance) == ["pipe"]
    (inner,) = made.provenance.step.substeps
    assert (inner.operation, inner.parameters["other"]) == ("multiply", 3)
    sky = frame().calibrate(without=WITHOUT)
    forced = sky.photometer([[20.0, 20.0]])
    assert operations(forced.provenance) == ["forced_photometry", "calibrate"]
    assert [step.operation for step in forced.provenance.step.substeps] == ["detect"]


def test_inputs_of_an_inner_operation_are_parents_of_the_outer_one(sample_bias):
    raw = frame()
    made = raw.pipe(prepare, [sample_bias])
    assert sample_bias.provenance.id in {parent.provenance.id for parent in made.provenance.parents}
    other = frame(2)

    def minus(image):
        return image - other  # reached by closure, not as an argument

    made = raw.pipe(minus)
    assert {p.provenance.id for p in made.provenance.parents} == {raw.provenance.id, other.provenance.id}

    def elsewhere(image):
        return image + (other * 2.0)  # the inner product is not the image's own history

    made = raw.pipe(elsewhere)
    assert [(p.role, p.provenance.id) for p in made.provenance.parents] == [
        ("self", raw.provenance.id),
        ("input", other.provenance.id),
    ]


@pytest.fixture
def sample_bias():
    return larun.MasterBias.combine([frame(seed) for seed in (5, 6, 7)], clip="mad")


def test_acceptance_35_once_sees_through_everything_that_follows():
    clean = frame().calibrate(without=WITHOUT).clean(fwhm=2.5)
    other = frame(2).calibrate(without=WITHOUT)
    for again in (
        clean,
        clean.crop((0, 40), (0, 40)),
        clean + 1.0,
        1.0 * clean,
        clean - other,
        clean + other,
        other + clean,
        clean.pipe(double),
        copy.deepcopy(clean),
        pickle.loads(pickle.dumps(clean)),
    ):
        with pytest.raises(AlreadyApplied, match="clean was already applied"):
            again.clean(fwhm=2.5)
        with pytest.raises(AlreadyApplied, match="calibrate"):
            again.calibrate(without=WITHOUT)

    def twice(image):
        return image.clean(fwhm=2.5).clean(fwhm=2.5)

    with pytest.raises(AlreadyApplied, match="clean"):
        other.pipe(twice)
    with pytest.raises(AlreadyApplied):
        frame().pipe(lambda image: image.calibrate(without=WITHOUT).calibrate(without=WITHOUT))


def test_a_frame_that_only_met_a_clean_one_as_master_is_not_clean(sample_bias):
    assert not frame().calibrate(sample_bias, without=("dark", "flat")).provenance.has("master_bias")


def test_equal_work_has_an_equal_id_and_other_work_another():
    reference = frame().calibrate(without=WITHOUT).provenance.id
    assert frame().calibrate(without=WITHOUT).provenance.id == reference
    assert frame().calibrate(without=list(reversed(WITHOUT))).provenance.id == reference
    counts = np.array(frame().data)
    counts[7, 7] += 1
    flags = np.zeros(counts.shape, np.uint32)
    flags[0, 0] = 1
    different = [
        larun.Frame.from_arrays(counts, gain=2.0, read_noise=4.0),  # a pixel
        frame(gain=2.5),  # what was given
        frame(header={"OBJECT": "M 13"}),  # the header
        frame(flags=flags),
    ]
    ids = {image.calibrate(without=WITHOUT).provenance.id for image in different}
    options = larun.OverscanOptions(method="none")
    ids.add(frame().calibrate(without=WITHOUT, overscan=options).provenance.id)
    assert len(ids) == 5
    assert reference not in ids


@pytest.mark.filterwarnings("ignore:.*too few stars to measure their size")
def test_ids_follow_from_parameters_however_they_are_written():
    sky = frame().calibrate(without=WITHOUT)
    one = sky.detect(5).provenance.id
    assert sky.detect(threshold=5.0).provenance.id == one
    assert sky.detect().provenance.id == one  # the default is resolved
    assert sky.detect(5.5).provenance.id != one
    assert sky.detect(mesh=32).provenance.id != one
    assert sky.crop((0, 9), (0, 9)).provenance.id == sky.crop([0, 9.0], (np.int64(0), 9)).provenance.id


def test_symmetric_operations_have_one_id_and_the_same_pixels():
    a, b = frame(1), frame(2)
    assert (a + b).provenance.id == (b + a).provenance.id
    assert (a + b).data.tobytes() == (b + a).data.tobytes()
    assert (a - b).provenance.id != (b - a).provenance.id
    assert (2 + a).provenance.id == (a + 2.0).provenance.id


def test_ids_do_not_depend_on_threads_place_or_process(tmp_path):
    script = (
        "import sys, numpy as np, larun\n"
        "larun.set_threads(int(sys.argv[1]))\n"
        "counts = np.random.default_rng(1).poisson(300, (48, 48)).astype(np.uint16)\n"
        "from astropy.io import fits\n"
        "fits.PrimaryHDU(counts, fits.Header({'GAIN': 2.0, 'RDNOISE': 4.0})).writeto(sys.argv[2])\n"
        "frame = larun.Frame.read(sys.argv[2]).calibrate(without=('bias', 'dark', 'flat'))\n"
        "print(frame.provenance.id, frame.crop((0, 9), (0, 9)).provenance.id)\n"
    )
    (tmp_path / "deep").mkdir()
    made = [
        subprocess.run(
            [sys.executable, "-c", script, threads, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for threads, path, seed in (("1", tmp_path / "a.fits", "1"), ("2", tmp_path / "deep" / "other.fits", "2"))
    ]
    assert made[0] == made[1]
    assert len(made[0].split()) == 2


def test_the_environment_is_beside_the_id_and_not_in_it():
    one = frame().provenance
    other = attrs.evolve(one, environment={"numpy": "99"})
    assert other.id == one.id
    assert "numpy" in one.environment


def test_fitted_state_follows_from_the_inputs_and_is_not_in_the_id():
    step = Step(operation="detect", parameters={"threshold": 5}, fitted={"fwhm": 3.0})
    root = Provenance(root=Root(kind="memory", pixels="00"))
    ids = {
        Provenance(step=attrs.evolve(step, fitted={"fwhm": f}), parents=(Parent("self", root),)).id for f in (3.0, 4.0)
    }
    assert len(ids) == 1
    assert Provenance(step=attrs.evolve(step, version=2), parents=(Parent("self", root),)).id not in ids


def test_predict_says_what_will_be_recorded():
    raw = frame()
    sky = raw.calibrate(without=WITHOUT)
    clean = sky.clean(fwhm=2.5, replace=False)
    found = clean.detect(6.0, fwhm=2.5)
    measured = found.photometer((3.0,), unit="pixel", sky="background")
    for made, step in (
        (sky, predict("calibrate", raw, (), without=WITHOUT)),
        (clean, predict("clean", raw, fwhm=2.5, replace=False)),
        (found, predict("detect", raw, 6.0, fwhm=2.5)),
        (measured, predict("photometer", raw, (3.0,), unit="pixel", sky="background")),
    ):
        assert made.provenance.step.identity() == step.identity()
    frames = [frame(seed) for seed in (5, 6, 7)]
    bias = larun.MasterBias.combine(frames, clip="mad")
    step = predict("master_bias", larun.MasterBias, frames, clip="mad")
    assert bias.provenance.step.identity() == step.identity()


def record():
    made = frame().calibrate(without=WITHOUT).clean(fwhm=2.5).crop((0, 20), (0, 20))
    return made.provenance, json.loads(json.dumps(made.provenance.to_dict()))


def test_a_record_comes_back_complete():
    original, plain = record()
    back = Provenance.from_dict(plain)
    assert back.id == original.id
    assert back.to_dict() == original.to_dict()
    assert str(back) == str(original)
    assert pickle.loads(pickle.dumps(original)).to_dict() == original.to_dict()


def _parameter(plain):
    plain["nodes"][1]["step"]["parameters"]["sigma"] = 3


def _pixels(plain):
    plain["nodes"][-1]["root"]["pixels"] = "0" * 64


def _given(plain):
    plain["nodes"][-1]["root"]["given"]["gain"] = 3


def _version(plain):
    plain["nodes"][0]["step"]["version"] = 2


def _parent_gone(plain):
    del plain["nodes"][-1]


def _own_parent(plain):
    plain["nodes"][-1]["parents"] = [["self", plain["head"]]]


def _other_parent(plain):
    plain["nodes"][0]["parents"][0][1] = plain["nodes"][-1]["id"]


def _role(plain):
    plain["nodes"][0]["parents"][0][0] = "bias"


def _nothing(plain):
    plain["nodes"][0]["step"] = None


def _no_head(plain):
    del plain["head"]


def _strange(plain):
    plain["nodes"][0]["step"]["surprise"] = 1


@pytest.mark.parametrize(
    "damage",
    [
        _parameter,
        _pixels,
        _given,
        _version,
        _parent_gone,
        _own_parent,
        _other_parent,
        _role,
        _nothing,
        _no_head,
        _strange,
    ],
)
def test_a_record_that_was_changed_is_refused(damage):
    _, plain = record()
    damage(plain)
    with pytest.raises(CorruptProduct, match=r"x\.fits"):
        Provenance.from_dict(plain, "x.fits")


def test_a_product_whose_record_was_changed_and_sealed_again_is_refused(tmp_path):
    from larun.io.product import read_product, write_product

    made = frame().calibrate(without=WITHOUT).crop((0, 20), (0, 20))
    parts = read_product(made.write(tmp_path / "a.fits"))
    parts.record["provenance"]["nodes"][0]["step"]["parameters"]["x"] = [0, 21]
    write_product(tmp_path / "b.fits", parts)
    with pytest.raises(CorruptProduct, match=r"b.fits.*does not follow from its own content"):
        larun.Frame.read(tmp_path / "b.fits")


def test_thousands_of_steps_are_no_problem(tmp_path):
    image = larun.Frame.from_arrays(np.ones((4, 4)))
    total = image
    for _ in range(1500):
        total = total + image
    assert total.provenance.id
    back = larun.Frame.read(total.write(tmp_path / "sum.fits"))
    assert back.identical(total)
    assert not total.provenance.has("clean")
    assert str(total.provenance).count("add v1") >= 1500
    doubled = image
    for _ in range(60):  # 2⁶⁰ paths, 61 nodes
        doubled = doubled + doubled
    assert len(list(doubled.provenance.walk())) == 61
    assert not doubled.provenance.has("clean")


def test_every_operation_is_documented_and_registered_under_its_own_name():
    larun.MasterFlat, larun.SourceCatalog  # the modules register their operations
    assert {"calibrate", "clean", "detect", "photometer", "crop", "bin", "pipe", "master_bias"} <= set(OPERATIONS)
    for name, known in OPERATIONS.items():
        assert known.name == name
        assert known.function.__doc__, name
        assert known.reach in ("pixel", "halo", "global")


def test_arguments_are_recorded_in_the_form_an_operation_resolves_them_to():
    """Several ways to say one thing have one id; a newer argument at its default leaves older ids alone."""
    from larun.provenance import operation
    from larun.provenance.operation import OPERATIONS as KNOWN

    def resolve(arguments):
        shade = arguments.pop("shade")
        if shade == "none":
            raise ValueError("no such shade")
        return arguments | ({} if shade is None else {"shade": str(shade).lower()})

    try:

        @operation("painted", resolve=resolve)
        def painted(image, colour="red", shade=None):
            return image._replace()

        image = frame()
        assert painted(image).provenance.step.parameters == {"colour": "red"}
        dark = painted(image, shade="DARK").provenance
        assert dark.step.parameters == {"colour": "red", "shade": "dark"}
        assert dark.id == painted(image, "red", "dark").provenance.id
        assert predict("painted", image, shade="Dark").parameters == dark.step.parameters
        with pytest.raises(ValueError, match="no such shade"):
            painted(image, shade="none")
    finally:
        KNOWN.pop("painted", None)
