"""Texts are escaped for JSON together as each is alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.schema import escaped, escaped_each

_texts = st.one_of(
    st.text(max_size=8),
    st.text('",\\n []\\', max_size=8),
    st.sampled_from(["", '",\n  "', '"\n]', "\ud800"]),
)


@given(st.lists(_texts, max_size=5))
def test_texts_are_escaped_together_as_each_alone(texts: list[str]) -> None:
    assert escaped_each(texts) == list(map(escaped, texts))
