"""The window keeps the youngest messages: enough of them, and never much more."""

from hypothesis import given
from hypothesis import strategies as st

from forwarder.sinks.syslog import Owed, ResendWindow


def frames_of(taken: list[Owed]) -> list[bytes]:
    return [frame for sent, _ in taken for frame in sent.frames]


batches = st.lists(st.lists(st.binary(min_size=1, max_size=40), max_size=8), max_size=20)


@given(sent=batches, most=st.integers(1, 300))
def test_it_holds_the_last_messages_up_to_its_size(sent: list[list[bytes]], most: int) -> None:
    window, every = ResendWindow(most, 60), [frame for frames in sent for frame in frames]

    for frames in sent:
        window.add(frames, 0)
    kept = frames_of(window.take(1))

    size = len(b"".join(kept))
    largest = max((len(b"".join(frames)) for frames in sent), default=0)
    assert kept == every[len(every) - len(kept) :]
    assert size >= min(most, len(b"".join(every)))
    assert size < most + largest + 40


@given(sent=batches)
def test_without_a_size_it_holds_nothing(sent: list[list[bytes]]) -> None:
    window = ResendWindow(0, 60)

    for frames in sent:
        window.add(frames, 0)

    assert window.take(0) == []


def test_what_is_too_old_is_left_out() -> None:
    window = ResendWindow(1000, 60)
    window.add([b"old"], 0)
    window.add([b"young"], 50)

    assert frames_of(window.take(70)) == [b"young"]


def test_what_was_taken_is_gone() -> None:
    window = ResendWindow(1000, 60)
    window.add([b"one"], 0)
    window.take(0)

    assert window.take(0) == []


def test_sending_again_does_not_make_a_message_younger() -> None:
    window = ResendWindow(1000, 60)
    window.add([b"one"], 0)
    for now in (25, 50):
        window.put_back(window.take(now), now)

    assert window.take(75) == []


def test_an_outage_does_not_make_a_message_older() -> None:
    window = ResendWindow(1000, 60)
    window.add([b"one"], 0)
    owed = window.take(10)
    window.put_back(owed, 1000)

    assert frames_of(window.take(1049)) == [b"one"]


def test_nothing_is_sent_more_than_four_times() -> None:
    window, sent = ResendWindow(1000, 60), 1
    window.add([b"one"], 0)
    while taken := window.take(sent):
        sent += 1
        window.put_back(taken, sent)

    assert sent == 4
