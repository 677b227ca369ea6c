"""Object storage: batches as objects of a data lake."""

from forwarder.sinks.object_store.sink import ObjectStoreSink

__all__ = ["ObjectStoreSink"]
