"""The record as a tree: for people, and harmless whatever a header says."""

import io

import numpy as np

import larun
from larun.provenance import Parent, Provenance, Root, Step

HOSTILE = "d1\x1b[2J\x07\r\n\u202e[bold red]evil[/].fits"


def test_the_tree_shows_steps_parents_fits_and_what_was_given():
    raw = Provenance(root=Root(kind="file", pixels="00", name="d1.fits", given={"gain": 1.8}))
    biases = [Provenance(root=Root(kind="file", pixels=f"{n}", name=f"b{n}.fits")) for n in (1, 2)]
    bias = Provenance(
        step=Step(operation="master_bias", parameters={"sigma": 5}), parents=tuple(Parent("frame", b) for b in biases)
    )
    made = Provenance(
        step=Step(operation="calibrate", version=2, fitted={"level": 1000.25}, substeps=(Step(operation="crop"),)),
        parents=(Parent("self", raw), Parent("bias", bias), Parent("dark", bias)),
    )
    names = {"c": made.id[:8], "r": raw.id[:8], "b": bias.id[:8], "one": biases[0].id[:8], "two": biases[1].id[:8]}
    assert str(made) == (
        "calibrate v2()  [{c}]\n"
        "│    · crop v1()\n"
        "│    = level: 1000.25\n"
        "├─ file d1.fits (given: gain=1.8)  [{r}]\n"
        "├─ bias: master_bias v1(sigma=5)  [{b}]\n"
        "│  ├─ frame: file b1.fits  [{one}]\n"
        "│  └─ frame: file b2.fits  [{two}]\n"
        "└─ dark: master_bias v1(sigma=5)  [{b}] (shown above)"
    ).format(**names)


def test_hostile_text_cannot_steer_a_terminal():
    file = Provenance(root=Root(kind="file", pixels="00", name=HOSTILE, given={"filter": HOSTILE, HOSTILE: 1}))
    step = Step(
        operation="pipe", parameters={"note": HOSTILE, HOSTILE: [HOSTILE]}, fitted={HOSTILE: {HOSTILE: HOSTILE}}
    )
    made = Provenance(
        step=Step(operation="pipe", parameters=step.parameters, fitted=step.fitted, substeps=(step,)),
        parents=(Parent(HOSTILE, file),),
    )
    text = str(made)
    assert all(character.isprintable() for line in text.split("\n") for character in line)
    assert len(text.split("\n")) == 4
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=400, file=io.StringIO())
    console.print(Text(text))
    assert "[bold red]" in console.export_text()


def test_arrays_and_long_texts_are_short():
    step = Step(operation="forced_photometry", parameters={"positions": np.zeros((300, 2)), "note": "x" * 500})
    line = str(Provenance(step=step, parents=(Parent("self", Provenance(root=Root(kind="memory", pixels="0"))),)))
    assert "<array 300×2>" in line
    assert max(map(len, line.split("\n"))) < 160


def test_a_header_with_escape_codes_is_harmless_in_every_face_of_a_frame():
    frame = larun.Frame.from_arrays(np.ones((3, 3)), header={"OBJECT": "[red]M 13[/]", "FILTER": "[red]V[/]"})
    assert repr(frame).isprintable()
    assert str(frame.provenance).isprintable()
