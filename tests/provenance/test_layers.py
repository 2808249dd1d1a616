"""Records as boxes in columns."""

import itertools

from larun.provenance.layers import Slot, columns_of, grouped, heights_of, is_own, way_of
from tests.provenance.records import Night, made, raw


def drawn(record):
    graph = grouped(record)
    columns = columns_of(graph)
    return graph, columns, heights_of(graph, columns, lambda slot: 50.0 if slot.box >= 0 else 10.0, 8.0)


def test_frames_of_a_master_are_one_box_and_so_are_frames_of_a_stack():
    graph = grouped(Night().stack(40))
    counts = sorted((box.column, len(box.nodes)) for box in graph.boxes)
    assert counts == [(0, 2), (0, 4), (0, 40), (1, 1), (2, 1), (3, 40), (4, 40), (5, 1)]
    roles = {link.role for link in graph.links}
    assert roles == {"frame", "bias", "flat", "self"}


def test_what_was_made_otherwise_or_used_otherwise_is_another_box():
    frames = [made("clean", ("self", raw(f"d{n}.fits")), sigma=5 if n else 4) for n in range(5)]
    graph = grouped(made("stack", *(("frame", frame) for frame in frames)))
    assert sorted(len(box.nodes) for box in graph.boxes) == [1, 1, 1, 4, 4]


def test_no_two_slots_of_a_column_overlap_and_links_go_to_the_right():
    for record in (Night().stack(40), Night(dark=True).catalog(), Night().flat()):
        graph, columns, middle = drawn(record)
        for slots in columns:
            for above, below in itertools.pairwise(slots):
                halves = sum(25.0 if slot.box >= 0 else 5.0 for slot in (above, below))
                assert middle[below] - middle[above] >= halves + 8.0 - 1e-9
        for number, link in enumerate(graph.links):
            assert graph.boxes[link.source].column < graph.boxes[link.target].column
            assert [slot.column for slot in way_of(graph, number)] == list(
                range(graph.boxes[link.source].column, graph.boxes[link.target].column + 1)
            )


def test_the_objects_own_history_is_a_straight_line_above_the_rest():
    graph, columns, middle = drawn(Night(dark=True).catalog())
    own = [slot for slots in columns for slot in slots if is_own(graph, slot)]
    assert [slot.column for slot in own] == list(range(len(columns)))
    assert {middle[slot] for slot in own} == {0.0}
    assert all(is_own(graph, slots[0]) for slots in columns)
    assert graph.boxes[0].nodes[0].step.operation == "detect"


def test_of_a_large_record_the_nearest_part_is_kept():
    total = raw("a.fits")
    for n in range(300):
        total = made("add", ("operand", total), ("operand", raw(f"b{n}.fits")))
    graph = grouped(total, most=20)
    assert len(graph.boxes) == 21
    rest = graph.boxes[-1]
    assert (rest.nodes, rest.column) == ((), 0)
    assert rest.left_out + sum(len(box.nodes) for box in graph.boxes) == 601
    assert {link.role for link in graph.links if link.source == 20} == {""}
    columns = columns_of(graph)
    assert Slot(graph.boxes[0].column, box=0) in columns[-1]
