"""Some bad events, or a destination that refuses everything."""

from forwarder.delivery.breaker import Breaker


def test_fifty_in_a_row_for_one_reason_trip_it() -> None:
    breaker = Breaker(50)

    assert not breaker.refused(["no such field"] * 49)
    assert breaker.refused(["no such field"])
    assert breaker.tripped


def test_an_accepted_event_ends_the_row() -> None:
    breaker = Breaker(50)
    breaker.refused(["no such field"] * 49)
    breaker.accepted()

    assert not breaker.refused(["no such field"] * 49)


def test_another_reason_starts_another_row() -> None:
    breaker = Breaker(50)
    breaker.refused(["no such field"] * 49)

    assert not breaker.refused(["too old", "no such field"] * 49)


def test_once_tripped_only_an_accepted_event_closes_it() -> None:
    breaker = Breaker(2)
    breaker.refused(["no", "no"])

    assert breaker.refused(["no"])
    breaker.accepted()
    assert not breaker.tripped
