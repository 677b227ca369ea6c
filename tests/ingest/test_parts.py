"""Who belongs to the group: nobody twice, nobody forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from forwarder.ingest.windows import Group, regroup

names = st.lists(st.sampled_from("abcdef"), unique=True)


@given(names, names, names, names)
def test_every_wanted_part_is_read_by_somebody_and_no_other(
    group: list[str], joining: list[str], level: list[str], now: list[str]
) -> None:
    member = regroup(group, joining, level, now)

    assert set(now) == {*member.group, *member.joining}
    assert len(set(member.group)) == len(member.group)


@given(names, names, names)
def test_only_a_level_part_joins(group: list[str], joining: list[str], now: list[str]) -> None:
    member = regroup(group, joining, (), now)

    assert set(member.group) == set(group) & set(now)


def test_a_part_that_joined_before_a_crash_is_in_the_group_once() -> None:
    member = regroup(["a", "b"], ["b"], {"b"}, ["a", "b"])

    assert ("a", "b") == member.group
    assert ("b",) == member.joined


def test_a_group_comes_back_as_it_was_kept() -> None:
    group = Group(("a",), {"checked_us": 1})

    assert group == Group.from_json(group.to_json())
    assert Group() == Group.from_json(Group().to_json())
    assert Group.from_json(None) is None
