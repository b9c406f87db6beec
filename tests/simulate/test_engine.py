"""Discrete events: when actions happen that wait for each other, on lanes and on shared cores."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from superscaler.errors import SimulateError
from superscaler.simulate.events.engine import Host, Meeting, Timing, run
from superscaler.simulate.recording.record import Communication
from superscaler.simulate.scripts.script import Action, Await, Call, Compute, Posting, Script, Start


def script(*actions: float | str) -> Script:
    """Numbers are work; `s0` starts communication 0, `w0` waits for it."""
    made: list[Action] = []
    for action in actions:
        if isinstance(action, str):
            number = int(action[1:])
            made.append(Start(number) if action[0] == "s" else Await(number, 0))
        else:
            made.append(Compute(float(action), 0, ()))
    posting = Posting(Communication("all_reduce", 8, "group0", 0), 0)
    return Script((Call("f", ()),), tuple(made), (posting,) * 9, 0, 0, ())


def collective(
    us: float, *parts: tuple[int, int], lane: str = "link", busy: float = 1.0
) -> Meeting:
    numbered = tuple((c, p, 0) for c, p in parts)
    return Meeting(numbered, us, lane, tuple(range(len(parts))), busy)


def message(us: float, sender: tuple[int, int], receiver: tuple[int, int]) -> Meeting:
    return Meeting(((*sender, 0), (*receiver, 0)), us, "link", (1,))


def spans(timing: Timing, number: int) -> list[tuple[float, float]]:
    return [(s.start, s.end) for s in timing.actions[number]]


def test_work_hides_communication() -> None:
    timing = run([script(2, "s0", 5, "w0", 1)], [collective(3, (0, 0))])
    assert spans(timing, 0) == [(0, 2), (2, 2), (2, 7), (7, 7), (7, 8)]
    assert timing.end_us == 8


def test_a_collective_begins_when_the_last_has_come() -> None:
    timing = run([script(2, "s0", "w0", 1), script(6, "s0", "w0")], [collective(3, (0, 0), (1, 0))])
    assert spans(timing, 0)[2:] == [(2, 9), (9, 10)]
    assert spans(timing, 1)[2:] == [(6, 9)]
    assert (timing.meetings[0].ready, timing.meetings[0].start) == (6, 6)


def test_a_sender_does_not_wait() -> None:
    timing = run([script(1, "s0", 1), script("s0", "w0", 1)], [message(4, (0, 0), (1, 0))])
    assert timing.actions[0][-1].end == 2
    assert timing.actions[1][-1].end == 6


def test_a_wait_is_for_all_messages_of_a_call() -> None:
    scripts = [script("s0", "w0", 1), script("s0"), script(5, "s0")]
    timing = run(scripts, [message(4, (1, 0), (0, 0)), message(4, (2, 0), (0, 0))])
    assert spans(timing, 0) == [(0, 0), (0, 9), (9, 10)]


def test_a_lane_does_one_thing_at_a_time_and_others_run_beside_it() -> None:
    scripts = [script("s0", "s1", "s2", "w0", "w1", "w2")]
    both = [collective(3, (0, 0)), collective(4, (0, 1)), collective(5, (0, 2), lane="other")]
    timing = run(scripts, both)
    assert [(s.start, s.end) for s in timing.meetings] == [(0, 3), (3, 7), (0, 5)]
    assert timing.end_us == 7


def test_what_is_ready_first_goes_first() -> None:
    scripts = [script("s0", 2, "s1", "w0", "w1"), script(5, "s0"), script("s1")]
    met = [collective(3, (0, 0), (1, 0)), collective(4, (0, 1), (2, 1))]
    timing = run(scripts, met)
    assert [(s.start, s.end) for s in timing.meetings] == [(6, 9), (2, 6)]


def test_communications_wait_beside_each_other() -> None:
    """Of 4 us each, 1 us on the lane."""
    met = [collective(4, (0, n), busy=0.25) for n in range(2)]
    timing = run([script("s0", "s1", "w0", "w1")], met)
    assert [s.ready for s in timing.meetings] == [0, 0]
    assert [(s.start, s.end) for s in timing.meetings] == [(3, 4), (4, 5)]
    assert spans(timing, 0)[2:] == [(0, 4), (4, 5)]


def test_what_waits_less_comes_to_the_lane_first() -> None:
    met = [collective(4, (0, 0), busy=0.25), collective(2, (0, 1))]
    timing = run([script("s0", "s1", "w0", "w1")], met)
    assert [(s.start, s.end) for s in timing.meetings] == [(3, 4), (0, 2)]


def test_ranks_share_the_cores_of_a_host() -> None:
    scripts = [script(6), script(2), script(4)]
    hosts: list[Host | None] = [Host(2, {0: 1, 1: 1, 2: 1})] * 3
    timing = run(scripts, [], hosts)
    # 2/3 of a core each until class 1 is through at 3; two ranks left have one each.
    assert [actions[-1].end for actions in timing.actions] == pytest.approx([7, 3, 5])


def test_ranks_of_one_class_share_too() -> None:
    timing = run([script(6)], [], [Host(2, {0: 4})])
    assert timing.end_us == pytest.approx(12)


@pytest.mark.parametrize(("cores", "end"), [(2, 8.0), (3, 16 / 3), (4, 4.0)])
def test_communication_takes_cores_too(cores: int, end: float) -> None:
    """A rank that takes part in a collective keeps a core as busy as one that computes."""
    scripts = [script("s0", "w0"), script("s0", "w0"), script(4), script(4)]
    hosts: list[Host | None] = [Host(cores, dict.fromkeys(range(4), 1))] * 4
    timing = run(scripts, [collective(4, (0, 0), (1, 0))], hosts)
    assert [actions[-1].end for actions in timing.actions] == pytest.approx([end] * 4)
    assert (timing.meetings[0].start, timing.meetings[0].end) == pytest.approx((0, end))


def test_communication_beside_work_takes_of_its_core() -> None:
    """Two ranks on two cores: both compute while a collective is under way."""
    scripts = [script("s0", 6, "w0"), script("s0", 6, "w0")]
    hosts: list[Host | None] = [Host(2, {0: 1, 1: 1})] * 2
    timing = run(scripts, [collective(4, (0, 0), (1, 0), busy=0.5)], hosts)
    # From 2 to 6 half a core each, in which the collective has its 2 us and the work 2 of 6.
    assert (timing.meetings[0].start, timing.meetings[0].end) == pytest.approx((2, 6))
    assert [actions[-1].end for actions in timing.actions] == pytest.approx([8, 8])


def test_communication_that_waits_takes_no_core() -> None:
    scripts = [script("s0", "w0"), script("s0", "w0"), script(4), script(4)]
    hosts: list[Host | None] = [Host(2, dict.fromkeys(range(4), 1))] * 4
    timing = run(scripts, [collective(4, (0, 0), (1, 0), busy=0.25)], hosts)
    # The work has a core each until 3, then half a core each until both are over.
    assert (timing.meetings[0].start, timing.meetings[0].end) == pytest.approx((3, 5))
    assert [actions[-1].end for actions in timing.actions] == pytest.approx([5] * 4)


def test_on_shared_cores_the_next_communication_waits_for_the_lane() -> None:
    scripts = [script("s0", "s1", "w0", "w1"), script("s0", "s1", "w0", "w1"), script(3)]
    hosts: list[Host | None] = [Host(2, dict.fromkeys(range(3), 1))] * 3
    met = [collective(2, (0, 0), (1, 0)), collective(2, (0, 1), (1, 1))]
    timing = run(scripts, met, hosts)
    # 2/3 of a core each until the work is over at 4.5: 2 us of the first, 1 of 2 of the second.
    assert [s.ready for s in timing.meetings] == [0, 0]
    assert [s.start for s in timing.meetings] == pytest.approx([0, 3])
    assert [s.end for s in timing.meetings] == pytest.approx([3, 5.5])
    assert timing.actions[2][-1].end == pytest.approx(4.5)


def test_a_host_with_cores_enough_slows_nobody() -> None:
    timing = run([script(6), script(2)], [], [Host(2, {0: 1, 1: 1})] * 2)
    assert [actions[-1].end for actions in timing.actions] == [6, 2]


def test_ranks_that_wait_for_each_other_are_named() -> None:
    scripts: Sequence[Script] = [script("w0", "s1"), script("w1", "s0")]
    met = [message(1, (1, 0), (0, 0)), message(1, (0, 1), (1, 1))]
    with pytest.raises(SimulateError) as raised:
        run(scripts, met)
    assert str(raised.value).splitlines() == [
        "the ranks wait for each other and never go on",
        "  class 0 waits for all_reduce of f[] with classes [1]",
        "  class 1 waits for all_reduce of f[] with classes [0]",
    ]
