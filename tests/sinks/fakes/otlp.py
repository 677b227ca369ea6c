"""An OTLP receiver that reads requests with OpenTelemetry's own library and may take a part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from aiohttp import web
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs

from forwarder.testing.fake_server import FakeServer, body_of


class FakeOtlp(FakeServer):
    """Takes what has the token; records whose body holds ``refused`` are rejected by number."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "0tlp-token"
        self.refused = b""
        self.largest = 20 * 2**20
        self.warning = ""
        self.received: list[ResourceLogs] = []
        self.encodings: list[str] = []

    def delivers(self, request: web.Request) -> bool:
        """A request without records is a probe; it is never compressed."""
        return "Content-Encoding" in request.headers

    @property
    def records(self) -> list[LogRecord]:
        scopes = [scope for logs in self.received for scope in logs.scope_logs]
        return [record for scope in scopes for record in scope.log_records]

    def arrived(self) -> Mapping[str, int]:
        return Counter(attributes(record)["log.record.uid"] for record in self.records)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.locked or request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        if request.path != "/v1/logs":
            return web.Response(status=404)
        if request.headers["Content-Type"] != "application/x-protobuf":
            return web.Response(status=415)
        body = await body_of(request)
        if len(body) > self.largest:
            return web.Response(status=400, text="http: request body too large")
        try:
            export = ExportLogsServiceRequest.FromString(body)
        except DecodeError:
            return web.Response(status=400, text="cannot be read")
        self.encodings.append(request.headers.get("Content-Encoding", ""))
        answer = ExportLogsServiceResponse()
        rejected = sum(self._take(logs) for logs in export.resource_logs)
        answer.partial_success.rejected_log_records = rejected
        answer.partial_success.error_message = "no good" if rejected else self.warning
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")

    def _take(self, logs: ResourceLogs) -> int:
        """Keep what is not refused, and return how many records are."""
        rejected = 0
        for scope in logs.scope_logs:
            taken = [record for record in scope.log_records if not self._is_refused(record)]
            rejected += len(scope.log_records) - len(taken)
            del scope.log_records[:]
            scope.log_records.extend(taken)
        self.received.append(logs)
        return rejected

    def _is_refused(self, record: LogRecord) -> bool:
        return bool(self.refused) and self.refused in record.body.string_value.encode()


def attributes(of: LogRecord) -> dict[str, str]:
    return dict(_pairs(of.attributes))


def resource(of: ResourceLogs) -> dict[str, str]:
    return dict(_pairs(of.resource.attributes))


def _pairs(found: Iterable[KeyValue]) -> Iterator[tuple[str, str]]:
    for pair in found:
        yield pair.key, pair.value.string_value
