"""The null sink accepts everything at once."""

from forwarder.core.contracts import ACCEPTED
from forwarder.sinks.null import NullSink
from forwarder.testing.fake_sinks import make_batch, sink_context


async def test_everything_is_accepted() -> None:
    sink = NullSink(NullSink.Config(), sink_context())

    await sink.open()
    result = await sink.write(make_batch(3))
    await sink.aclose()

    assert result == ACCEPTED
