"""Content for Elasticsearch and OpenSearch: detections and dashboards."""
