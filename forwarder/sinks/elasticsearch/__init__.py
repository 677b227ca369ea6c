"""Elasticsearch and OpenSearch, through their bulk endpoint."""

from forwarder.sinks.elasticsearch.config import ElasticsearchConfig
from forwarder.sinks.elasticsearch.sink import ElasticsearchSink

__all__ = ["ElasticsearchConfig", "ElasticsearchSink"]
