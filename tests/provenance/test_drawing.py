"""The record as SVG."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from larun.provenance.drawing import DRAWN_BY
from tests.provenance.records import Night, made, raw

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert(1)</script>&\x00\x1b[2J\ud800\n]]>"


def drawing(record):
    return ElementTree.fromstring(record.to_svg().encode())


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def test_boxes_say_what_they_are_and_titles_all_that_is_known():
    root = drawing(Night().catalog())
    found = texts(root)
    for text in ("4 bias frames", "2 flat frames", "d1.fits", "master_bias v2", "clean v3", "sigma = 4.5", "bias"):
        assert text in found
    titles = "\n".join(element.text for element in root.iter(f"{SVG}title"))
    for name in ("b1.fits", "b4.fits", "f2.fits", "options = {overscan: {method: 'median'}}", "found fwhm = 3"):
        assert name in titles
    assert "40 × clean v3" in texts(drawing(Night().stack(40)))


def test_equal_records_give_equal_text_in_every_process():
    text = Night().stack(5).to_svg()
    assert text == Night().stack(5).to_svg()
    script = "from tests.provenance.records import Night; import sys; sys.stdout.write(Night().stack(5).to_svg())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, env={"PYTHONHASHSEED": "5", "PYTHONPATH": "."}
    )
    assert done.stdout.decode() == text
    assert DRAWN_BY in text[:200]


def test_hostile_text_is_text():
    record = made("pipe", (HOSTILE, raw(HOSTILE)), fitted={HOSTILE: HOSTILE}, **{HOSTILE: HOSTILE})
    root = drawing(record)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg", "title", "desc", "style", "rect", "path", "g", "text"
    }  # fmt: skip
    assert all("\x00" not in (element.text or "") for element in root.iter())
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)


def test_no_path_gets_into_a_drawing():
    record = made("clean", ("self", raw("d1.fits", location="/home/somebody/d1.fits[1]")))
    assert "somebody" not in record.to_svg()


def test_boxes_lie_inside_the_picture_and_apart_and_texts_inside_their_boxes():
    for record in (Night(dark=True).stack(12), Night().flat(), raw("a" * 90 + ".fits"), made("m" * 80, W="W" * 80)):
        root = drawing(record)
        width, height = (float(root.attrib[key]) for key in ("width", "height"))
        boxes = []
        for group in root.iter(f"{SVG}g"):
            rectangle = group.findall(f"{SVG}rect")[-1]
            x, y, w, h = (float(rectangle.attrib[key]) for key in ("x", "y", "width", "height"))
            assert x >= 0 <= y
            assert x + w <= width
            assert y + h <= height
            boxes.append((x, y, x + w, y + h))
            for text in group.iter(f"{SVG}text"):
                assert x < float(text.attrib["x"])
                assert y < float(text.attrib["y"]) < y + h
                assert len(text.text) * 4.5 < w
        for n, a in enumerate(boxes):
            for b in boxes[:n]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_links_end_at_the_left_side_of_the_boxes_that_used_them():
    root = drawing(Night().catalog())
    lefts = {float(g.findall(f"{SVG}rect")[-1].attrib["x"]) for g in root.iter(f"{SVG}g")}
    ends = [re.findall(r"H([\d.]+)", path.attrib["d"])[-1] for path in root.iter(f"{SVG}path")]
    assert len(ends) == 8
    assert {float(end) for end in ends} <= lefts


def test_thousands_of_steps_become_a_picture_of_the_last():
    total = raw("a.fits")
    for n in range(800):
        total = made("add", ("operand", total), ("operand", raw(f"b{n}.fits")))
    assert any(text.startswith("… ") for text in texts(drawing(total)))
