"""How long an ended child waits for its next start."""

from gateway.command.supervisor import RESTART_CEILING_S, SETTLED_S, Backoff


def test_waits_double_from_a_fifth_of_a_second_to_five() -> None:
    backoff = Backoff()
    waits = []
    for _ in range(7):
        wait_s, backoff = backoff.after(0.1)
        waits.append(wait_s)
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_child_that_had_settled_begins_anew() -> None:
    worn = Backoff(RESTART_CEILING_S)
    assert worn.after(SETTLED_S - 0.1) == (5.0, Backoff(5.0))
    assert worn.after(SETTLED_S) == (0.2, Backoff(0.4))
