"""Elasticsearch and OpenSearch data streams."""

from forwarder.sinks.elasticsearch.sink import ElasticsearchConfig, ElasticsearchSink

__all__ = ["ElasticsearchConfig", "ElasticsearchSink"]
