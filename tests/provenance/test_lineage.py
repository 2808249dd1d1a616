"""How two records differ, in words; which steps took an input."""

import attrs
import numpy as np
import pytest

import larun
from larun.provenance import Parent, Provenance, Root, Step
from larun.provenance.lineage import Use, uses
from tests.provenance.records import Night, made, raw

HOSTILE = "d1\x1b[2J\n[bold red]evil[/]"


def lines(one, other):
    return [str(change) for change in one.diff(other).causes]


def test_equal_records_do_not_differ_and_say_so():
    found = Night().catalog().diff(Night().catalog())
    assert found.same
    assert (found.causes, found.consequences, found.environment) == ((), (), ())
    assert str(found) == "all that decides pixels is the same"


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (Night(clean_sigma=5), ["clean.sigma 4.5 → 5"]),
        (Night(clean_version=4), ["clean version 3 → 4"]),
        (Night(bias_sigma=4), ["bias › master_bias.sigma 5 → 4"]),  # told once, though the flat used it too
        (Night(dark=True), ["dark › master_dark v1 of 3 raw files [b4b3a56f] only in B"]),
        (Night(biases=("b1.fits", "b2.fits", "b3.fits")), ["bias › frame › b4.fits [pixels 00009b31] only in A"]),
        (
            Night(given={"GAIN": 1.8}),
            ["given GAIN not given → 1.8 (b1.fits, b2.fits, b3.fits and 4 more)"],
        ),
    ],
)
def test_each_difference_is_one_line(other, told):
    found = lines(Night().catalog(), other.catalog())
    assert [line.partition(" [")[0] for line in found] == [line.partition(" [")[0] for line in told]
    assert [line.rpartition("] ")[2] for line in found] == [line.rpartition("] ")[2] for line in told]
    assert lines(Night().frame(), other.frame()) == found


def test_what_forty_frames_share_is_told_once():
    one, other = Night().stack(), Night(bias_sigma=4, clean_sigma=5).stack()
    assert lines(one, other) == [
        "frame › clean.sigma 4.5 → 5 (d0.fits, d1.fits, d10.fits and 37 more)",
        "frame › bias › master_bias.sigma 5 → 4",
    ]
    (fewer,) = lines(one, Night().stack(39))
    assert fewer.startswith("frame › clean v3 of 7 raw files")
    assert fewer.endswith("only in A (d39.fits)")


def test_steps_that_only_one_has_and_inner_steps():
    frame = Night().frame()
    inner = Step(operation="crop", parameters={"x": [0, 9]})
    piped = made("pipe", ("self", frame), substeps=[inner], function="f")
    assert lines(frame, piped) == ["pipe v1(function='f') only in B"]
    other = made("pipe", ("self", frame), substeps=[attrs.evolve(inner, parameters={"x": [0, 8]})], function="f")
    assert lines(piped, other) == ["pipe › crop.x [0, 9] → [0, 8]"]
    bare = made("pipe", ("self", frame), function="f")
    assert lines(piped, bare) == ["pipe › crop v1(x=[0, 9]) only in A"]


def test_raw_files_by_pixels_header_and_what_was_given():
    one = raw("d1.fits", "aa" * 32)
    assert lines(one, raw("d1.fits", "bb" * 32)) == ["d1.fits has other pixels: aaaaaaaa → bbbbbbbb"]
    renamed = attrs.evolve(one.root, name="other.fits", location="/elsewhere")
    assert one.diff(Provenance(root=renamed)).same
    cards = attrs.evolve(one.root, header="cc" * 32)
    assert lines(one, Provenance(root=cards)) == ["d1.fits has another header: 'head' → cccccccc"]
    other = Provenance(root=attrs.evolve(cards, pixels="bb" * 32, name="d2.fits"))
    assert lines(one, other) == ["raw file d1.fits [pixels aaaaaaaa] → d2.fits [pixels bbbbbbbb]"]
    told = lines(one, Provenance(root=attrs.evolve(one.root, detector="dd")))
    assert told == ["d1.fits gain, noise, levels or sections of the detector are described otherwise"]
    both = Provenance(root=attrs.evolve(one.root, detector="dd", given={"GAIN": 2}))
    assert lines(one, both) == ["given GAIN not given → 2 (d1.fits)"]  # from which the detector follows


def test_consequences_stand_apart_and_values_that_look_alike_are_told_apart():
    found = Night(fwhm=3.00000001).catalog().diff(Night(clean_sigma=5).catalog())
    assert [str(change) for change in found.causes] == ["clean.sigma 4.5 → 5"]
    assert [str(change) for change in found.consequences] == ["detect.fwhm 3.00000001 → 3"]
    again = Night().catalog().diff(Night(fwhm=3.5).catalog())  # the same id, computed otherwise
    assert again.same
    assert [str(change) for change in again.consequences] == ["detect.fwhm 3 → 3.5 (d1.fits)"]


def test_the_environment_is_beside_the_record():
    one = Night().catalog()
    other = attrs.evolve(Night(clean_sigma=5).catalog(), environment={**one.environment, "numpy": "99"})
    found = one.diff(other)
    assert [change.kind for change in found.causes] == ["parameter"]
    (change,) = found.environment
    assert (change.where, change.other) == ("numpy", sorted({"99", one.environment["numpy"]}))
    assert "beside the record:" in str(found)


def test_a_difference_of_order_alone_is_told():
    one, two = raw("a.fits"), raw("b.fits")
    assert lines(made("join", ("x", one), ("y", two)), made("join", ("y", two), ("x", one))) == [
        "the same steps and inputs, in another order"
    ]


def test_plain_containers_and_direction():
    plain = Night().catalog().diff(Night(clean_sigma=5).catalog()).to_dict()
    assert plain["same"] is False
    (cause,) = plain["causes"]
    assert (cause["kind"], cause["one"], cause["other"], cause["line"]) == ("parameter", 4.5, 5, "clean.sigma 4.5 → 5")
    back = Night(clean_sigma=5).catalog().diff(Night().catalog())
    assert str(back) == "clean.sigma 5 → 4.5"


def test_hostile_names_cannot_steer_a_terminal():
    one = made(HOSTILE, ("self", raw(HOSTILE)), fitted={HOSTILE: 1}, **{HOSTILE: HOSTILE})
    other = made(HOSTILE, (HOSTILE, raw(HOSTILE, "11")), fitted={HOSTILE: 2}, **{HOSTILE: "x"})
    for line in str(one.diff(other)).split("\n"):
        assert line.isprintable()
    assert len(one.diff(other).causes) == 3


def test_every_change_of_a_random_record_is_found_and_nothing_else():
    """Change one thing somewhere in a record: the one cause names it."""
    rng = np.random.default_rng(7)
    for _ in range(60):
        one = Night().stack(4)
        plain = one.to_dict()
        nodes = [node for node in plain["nodes"] if node.get("step")]
        victim = nodes[rng.integers(len(nodes))]["step"]
        key = rng.choice([*victim["parameters"], "version"])
        other = rebuilt(plain, victim, key)
        causes = one.diff(other).causes
        assert len(causes) == 1, [str(c) for c in causes]
        where = causes[0].where.split(" › ")[-1]
        assert where.startswith(victim["operation"] if key == "version" else f"{victim['operation']}.{key}")


def rebuilt(plain, victim, key):
    """The record with one parameter or version changed, ids following."""
    rows = {row["id"]: row for row in plain["nodes"]}

    def build(identity):
        row = rows[identity]
        parents = tuple(Parent(role, build(parent)) for role, parent in row["parents"])
        if row.get("root"):
            return Provenance(root=Root(**row["root"]))
        step = Step.from_dict(row["step"])
        if row["step"] is victim:
            changed = {"version": 77} if key == "version" else {"parameters": {**step.parameters, key: "changed"}}
            step = attrs.evolve(step, **changed)
        return Provenance(step=step, parents=parents)

    return build(plain["head"])


def test_long_lines_and_shared_operands_are_no_problem():
    def chain(first, count):
        total = raw(first)
        for _ in range(count):
            total = made("add", ("operand", total), ("operand", raw("b.fits")))
        return total

    found = chain("a.fits", 600).diff(chain("c.fits", 600))
    assert len(found.causes) == 2
    assert max(len(str(change)) for change in found.causes) < 200
    one, other = raw("a.fits"), raw("c.fits")
    for _ in range(60):  # 2⁶⁰ paths
        one, other = (made("add", ("operand", x), ("operand", x)) for x in (one, other))
    (cause,) = one.diff(other).causes
    assert cause.where == "raw file"
    assert cause.text.startswith("a.fits [pixels ")
    assert repr(one).startswith("<Provenance 'add v1' ")


def test_real_objects_differ_as_they_were_made():
    counts = np.random.default_rng(1).poisson(300, (48, 48))
    frame = larun.Frame.from_arrays(counts, gain=2.0, read_noise=4.0).calibrate(without=("bias", "dark", "flat"))
    one, other = frame.clean(fwhm=2.5), frame.clean(fwhm=2.5, sigma=9.0)
    assert lines(one.provenance, other.provenance) == ["clean.sigma 4.5 → 9"]
    assert lines(one.provenance, (other * 2.0).provenance) == ["multiply v1(other=2) only in B", "clean.sigma 4.5 → 9"]


def named(name):
    return lambda node: node.root is not None and node.root.name == name


def test_uses_say_in_which_role_and_at_which_step():
    catalog = Night().catalog()
    assert uses(catalog, named("d1.fits")) == (Use("self", "calibrate"),)
    assert uses(catalog, named("f1.fits")) == (Use("flat", "calibrate", (("master_flat", "frame"),)),)
    assert uses(catalog, named("b1.fits")) == (
        Use("bias", "calibrate", (("master_bias", "frame"),)),
        Use("flat", "calibrate", (("master_flat", "bias"), ("master_bias", "frame"))),
    )
    assert uses(catalog, named("no.fits")) == ()
    bias = Night().bias()
    assert uses(catalog, lambda node: node.id == bias.id)[0] == Use("bias", "calibrate")
    assert uses(bias, named("b1.fits")) == (Use("frame", "master_bias"),)
    assert uses(bias, lambda node: node.id == bias.id) == (Use("itself", ""),)
    frame = Night().frame()
    assert uses(catalog, lambda node: node.id == frame.id) == (Use("self", "detect"),)


def test_uses_of_deep_and_wide_records_end():
    node = raw("a.fits")
    for _ in range(60):
        node = made("add", ("operand", node), ("operand", node))
    (use,) = uses(node, named("a.fits"))
    assert use == Use("operand", "add")
    total = made("add", ("operand", node), ("operand", raw("b.fits")))
    (use,) = uses(total, named("a.fits"))
    assert len(use.through) == 60
