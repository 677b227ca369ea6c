"""Fakes and contract suites for authors of sources, sinks and formats.

``fake_server`` has an HTTP server that can fail in every way that real ones do, ``network`` a TCP
proxy with faults, and ``fault_run`` a bad hour for a destination with a consumer that delivers
through it. The engine's own fakes are here too: ``clock`` (hours in milliseconds),
``memory_queue`` (a journal without a disk) and ``fake_sinks`` (a sink that answers from a script,
or at random from a seed). Together they run a whole consumer in a test::

    clock, queue = FakeClock(), MemoryQueue()
    offsets = queue.append(100)
    sink = ScriptedSink(otherwise=RandomFaults(Random(1), clock))
    consumer = Consumer(name="siem", sink=sink, queue=queue, render=render_plainly,
                        options=DeliveryOptions(), clock=clock, rng=Random(1))
    run = asyncio.create_task(consumer.run())
    await queue.settled()
    await consumer.drain(clock.monotonic() + 5)
    assert set(sink.delivered) == set(offsets)
"""
