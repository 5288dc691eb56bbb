"""Receives OTLP over gRPC, as a collector does, and keeps a summary of what came in a file.

Usage: otlp.py SUMMARY; prints the address once it listens, and runs until it is killed.
"""

import concurrent.futures
import json
import os
import sys
import threading

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Received:
    """What came, by service."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.metrics: dict[str, set[str]] = {}
        self.spans: dict[str, set[str]] = {}
        self.logs: dict[str, int] = {}

    def keep(self) -> None:
        """Writes the summary; whoever reads it never sees half of it."""
        summary = {
            "metrics": {service: sorted(names) for service, names in self.metrics.items()},
            "spans": {trace: sorted(names) for trace, names in self.spans.items()},
            "logs": self.logs,
        }
        with open(self.path + ".part", "w") as part:
            json.dump(summary, part)
        os.replace(self.path + ".part", self.path)


def service(resource) -> str:
    """Returns a resource's service.name."""
    return next(a.value.string_value for a in resource.attributes if a.key == "service.name")


class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Takes metrics."""

    def __init__(self, received: Received) -> None:
        self.received = received

    def Export(self, request, context):  # noqa: N802 (the name is the protocol's)
        """Takes one request."""
        with self.received.lock:
            for resource in request.resource_metrics:
                names = {m.name for scope in resource.scope_metrics for m in scope.metrics}
                self.received.metrics.setdefault(service(resource.resource), set()).update(names)
            self.received.keep()
        return metrics_service_pb2.ExportMetricsServiceResponse()


class Traces(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans."""

    def __init__(self, received: Received) -> None:
        self.received = received

    def Export(self, request, context):  # noqa: N802
        """Takes one request."""
        with self.received.lock:
            for resource in request.resource_spans:
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    self.received.spans.setdefault(span.trace_id.hex(), set()).add(span.name)
            self.received.keep()
        return trace_service_pb2.ExportTraceServiceResponse()


class Logs(logs_service_pb2_grpc.LogsServiceServicer):
    """Takes logs."""

    def __init__(self, received: Received) -> None:
        self.received = received

    def Export(self, request, context):  # noqa: N802
        """Takes one request."""
        with self.received.lock:
            for resource in request.resource_logs:
                count = sum(len(scope.log_records) for scope in resource.scope_logs)
                name = service(resource.resource)
                self.received.logs[name] = self.received.logs.get(name, 0) + count
            self.received.keep()
        return logs_service_pb2.ExportLogsServiceResponse()


def main(path: str) -> None:
    """Serves until it is killed."""
    received = Received(path)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=4))
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(received), server)
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(received), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Logs(received), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"http://127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
