"""Spans for calls and for reconnects, by OpenTelemetry's conventions for Redis.

Rules of this file:

1. Nothing is made of a call before it is known that its span will be recorded.
2. A span has no key, no value and no error text: an error reply may quote what was sent.
3. A span of a call is never the current one: nothing of what happens inside a call makes spans of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context, get_current
from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode, set_span_in_context

from aioredis_kit.exceptions import CommandTimeoutError, KitError
from aioredis_kit.integrations.outcomes import operation_of, procedure_of, without_arguments

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

    from aioredis_kit.hooks import Call, Origin
    from aioredis_kit.integrations.outcomes import ErrorWords

(_SPAN_KEY,) = set_span_in_context(INVALID_SPAN, Context())  # to find the span three times as fast as get_current_span
_MOST_UNSAMPLED: Final = 1024
_MOST_STARTS: Final = 4096


class Spans:
    """Makes the spans of calls.

    Args:
        tracer: Where they go.
        words: What errors are called.
        are_roots: Whether a call has a span of its own where none is current.
        has_query_text: Whether they have the commands, without arguments.
    """

    def __init__(self, tracer: Tracer, words: ErrorWords, *, are_roots: bool, has_query_text: bool) -> None:
        self._tracer = tracer
        self._words = words
        self._are_roots = are_roots
        self._has_query_text = has_query_text
        self._unsampled: set[Span] = set()  # of those seen lately: they are asked but once
        self._starts: dict[tuple[Any, ...], dict[str, AttributeValue]] = {}

    def is_wanted(self) -> bool:
        """Return whether a call that is made now has a span: whether the current one, if any, was sampled."""
        span: Any = get_current().get(_SPAN_KEY)
        if span is None:
            return self._are_roots
        if span in self._unsampled:
            return False
        context = span.get_span_context()
        if not context.is_valid:
            return self._are_roots
        if context.trace_flags.sampled:
            return True
        if len(self._unsampled) >= _MOST_UNSAMPLED:
            self._unsampled.clear()
        self._unsampled.add(span)
        return False

    def start(self, call: Call) -> Span | None:
        """Begin the span of a call, if it is recorded."""
        operation = operation_of(call)
        span = self._tracer.start_span(
            operation,
            kind=SpanKind.CLIENT,
            attributes=self._start_attributes(call, operation),
            record_exception=False,
            set_status_on_exception=False,
        )
        return span if span.is_recording() else None

    def end(self, span: Span, call: Call) -> None:
        """End it."""
        attributes: dict[str, AttributeValue] = {
            "aioredis_kit.queue_time": call.queue_time,
            "aioredis_kit.server_time": call.server_time,
        }
        if call.is_blocking:
            attributes["redis.client.operation.blocking"] = True
        if call.written is not None:
            attributes |= peer_attributes(call.origin)
        error = call.error
        if error is not None:
            attributes["error.type"] = self._words.error_type(error)
            if (code := self._words.status_code(error)) is not None:
                attributes["db.response.status_code"] = code
            if isinstance(error, KitError):
                attributes["aioredis_kit.maybe_executed"] = error.maybe_executed
            if isinstance(error, CommandTimeoutError):
                attributes["aioredis_kit.timeout.cause"] = error.diagnosis.cause.name.lower()
            span.set_status(StatusCode.ERROR)
        span.set_attributes(attributes)
        span.end()

    def _start_attributes(self, call: Call, operation: str) -> dict[str, AttributeValue]:
        """Return what a sampler may want to know. It is the same for most calls of a command, and is not changed."""
        origin, batch_size, procedure = call.origin, call.batch_size, procedure_of(call)
        key = origin.host, origin.port, call.db, operation
        attributes = self._starts.get(key)
        if attributes is None:
            attributes = operation_attributes(call, operation)
            if len(self._starts) >= _MOST_STARTS:
                self._starts.clear()
            self._starts[key] = attributes
        if batch_size is not None and batch_size > 1:
            attributes = {**attributes, "db.operation.batch.size": batch_size}
        if procedure is not None:
            attributes = {**attributes, "db.stored_procedure.name": procedure}
        if self._has_query_text:
            attributes = {**attributes, "db.query.text": without_arguments(origin, call.commands)}
        return attributes


class ReconnectSpans:
    """Makes a span of each time that a client has no connection: from the loss until it is ready again, or gives up.

    Such a span has no parent: what happened concerns all callers.

    Args:
        tracer: Where they go.
        origin: The client.
    """

    def __init__(self, tracer: Tracer, origin: Origin) -> None:
        self._tracer = tracer
        self._attributes = server_attributes(origin)
        self._span: Span | None = None
        self._attempts = 0
        origin.on("reconnecting", self._reconnecting)
        origin.on("ready", self._ready)
        origin.on("terminated", self._given_up)
        origin.on("end", self._given_up)

    def _reconnecting(self, retries: int, delay: float) -> None:  # noqa: ARG002  # what the event has
        if self._span is None:
            self._span = self._tracer.start_span(
                "reconnect", context=Context(), kind=SpanKind.CLIENT, attributes=self._attributes
            )
        self._attempts = retries + 1

    def _ready(self) -> None:
        self._end(None)

    def _given_up(self, cause: Exception | None = None) -> None:
        self._end("closed" if cause is None else type(cause).__qualname__)

    def _end(self, error_type: str | None) -> None:
        span, self._span = self._span, None
        if span is None:
            return
        span.set_attribute("aioredis_kit.attempts", self._attempts)
        if error_type is not None:
            span.set_attribute("error.type", error_type)
            span.set_status(StatusCode.ERROR)
        span.end()


def server_attributes(origin: Origin) -> dict[str, AttributeValue]:
    """Return what the conventions say of a server."""
    attributes: dict[str, AttributeValue] = {"db.system.name": "redis", "server.address": origin.host}
    if origin.port is not None:
        attributes["server.port"] = origin.port
    return attributes


def operation_attributes(call: Call, operation: str) -> dict[str, AttributeValue]:
    """Return what the conventions say of a server, and of what is done there."""
    attributes = {**server_attributes(call.origin), "db.operation.name": operation}
    if call.db is not None:
        attributes["db.namespace"] = str(call.db)
    return attributes


def peer_attributes(origin: Origin) -> dict[str, AttributeValue]:
    """Return where a connection leads, as far as that is known."""
    peer = origin.peer
    if peer is None:
        return {}
    address, port = peer
    if port is None:
        return {"network.peer.address": address, "network.transport": "unix"}
    return {"network.peer.address": address, "network.peer.port": port}
