"""OpenTelemetry: spans and metrics of clients, by the database conventions, from a hook.

Rules of this file:

1. What can be read of a client's statistics is read when metrics are collected, and costs commands nothing.
2. What has to be recorded for each call is switched on by name.
3. Exporters and providers are the application's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.hooks import CommandHook
from aioredis_kit.integrations.ledger import Ledger, identity_of
from aioredis_kit.integrations.measures import LANES, MEASURES, Kind, Measure, number, of_cache
from aioredis_kit.integrations.outcomes import ErrorWords, operation_of
from aioredis_kit.kinds import FLAG
from aioredis_kit.statistics import DURATION_BOUNDS

try:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Observation, get_meter
    from opentelemetry.trace import get_tracer

    from aioredis_kit.integrations.tracing import ReconnectSpans, Spans, operation_attributes
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs opentelemetry-api: pip install "aioredis_kit[otel]"') from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from aioredis_kit.hooks import Call, Origin
    from aioredis_kit.integrations.ledger import Identity
    from aioredis_kit.statistics import Statistics

__all__ = ["BUCKETS", "OpenTelemetry"]

BUCKETS: Final = DURATION_BOUNDS
"""Into what durations are sorted, in seconds, if no view says otherwise."""

_NAME: Final = "aioredis_kit"
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.36.0"
_MOST_SERIES: Final = 4096


def _connections(of: Statistics) -> Iterator[tuple[tuple[str, ...], float]]:
    for lane in LANES:
        yield ("used", lane), getattr(of.connections, lane).ready
    yield ("idle", "dedicated"), of.connections.dedicated.idle


def _errors(of: Statistics) -> Iterator[tuple[tuple[str, ...], float]]:
    yield ("ResponseError", "server"), of.commands.errors
    yield ("CommandTimeoutError", "network"), of.commands.timed_out
    yield ("ConnectionLostError", "network"), of.commands.lost
    yield ("ConnectError", "network"), of.connections.failures
    yield ("_OTHER", "other"), of.commands.unsent


CONVENTIONAL: Final = (
    Measure(
        "db.client.connection.count",
        Kind.LEVEL,
        "{connection}",
        "The number of connections that are currently in state described by the state attribute.",
        _connections,
        ("db.client.connection.state", "aioredis_kit.lane"),
    ),
    Measure(
        "db.client.connection.pending_requests",
        Kind.LEVEL,
        "{request}",
        "Commands that wait, for a connection or for their replies.",
        number(lambda of: of.queue.waiting + of.queue.in_flight + of.queue.waiting_for_lease),
    ),
    Measure(
        "db.client.connection.timeouts",
        Kind.COUNTER,
        "{timeout}",
        "Times that no dedicated connection could be had in time.",
        number(lambda of: of.connections.lease_timeouts),
    ),
    Measure(
        "redis.client.connection.closed",
        Kind.COUNTER,
        "{connection}",
        "Connections that ended otherwise than on purpose.",
        lambda of: [(("error",), of.connections.losses)],
        ("redis.client.connection.close.reason",),
    ),
    Measure(
        "redis.client.errors",
        Kind.COUNTER,
        "{error}",
        "Errors, those that the client handled by itself included.",
        _errors,
        ("error.type", "redis.client.errors.category"),
    ),
    Measure(
        "redis.client.csc.requests",
        Kind.COUNTER,
        "{request}",
        "Reads by whether the cache answered them.",
        of_cache(lambda of: [(("hit",), of.hits), (("miss",), of.misses)]),
        ("redis.client.csc.result",),
    ),
    Measure(
        "redis.client.csc.items",
        Kind.LEVEL,
        "{item}",
        "Replies that the cache keeps.",
        of_cache(lambda of: [((), of.entries)]),
    ),
    Measure(
        "redis.client.csc.evictions",
        Kind.COUNTER,
        "{eviction}",
        "Replies that had to go of the cache.",
        of_cache(lambda of: [(("full",), of.evictions), (("invalidation",), of.invalidations)]),
        ("redis.client.csc.reason",),
    ),
)
"""What the conventions, and Redis's own for its clients, have a name for."""

_LABELS: Final = {"direction": "network.io.direction"}
OWN: Final = tuple(
    replace(
        each,
        name=f"{_NAME}.{each.name}",
        labels=tuple(_LABELS.get(label, f"{_NAME}.{label}") for label in each.labels),
    )
    for each in MEASURES
)
"""All else."""


class OpenTelemetry(CommandHook):
    """Reports clients to OpenTelemetry: ``create_client(..., hooks=OpenTelemetry())``.

    One may be given to several clients. Those with the same address, database and name are reported together, as one
    connection pool; their numbers never go back, also if one is opened again or forgotten.

    Spans have the kind ``CLIENT`` and are children of the current span; they are never current themselves. Where the
    current span was not sampled there is none, whatever the sampler would say, and by default where none is current.
    They hold no key, no value and no text of an error.

    Args:
        tracer_provider: Where spans go; ``None``: the global one.
        meter_provider: Where metrics go; ``None``: the global one.
        traces: Whether calls and reconnects have spans.
        metrics: Whether what the clients count is reported. It is read at the collection: commands pay nothing.
        durations: Whether each call is recorded in ``db.client.operation.duration`` and ``.connection.wait_time``.
            The SDK takes longer for that than the client for a command.
        root_spans: Whether a command has a span where none is current, which begins a trace of its own.
        query_text: Whether spans have ``db.query.text``: the commands, with ``?`` for each argument.

    Raises:
        ConfigurationError: A value is of another type.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        traces: bool = True,
        metrics: bool = True,
        durations: bool = False,
        root_spans: bool = False,
        query_text: bool = False,
    ) -> None:
        flags = {"traces": traces, "metrics": metrics, "durations": durations}
        flags |= {"root_spans": root_spans, "query_text": query_text}
        for name, value in flags.items():
            FLAG.value(name, value)
        _check("tracer_provider", tracer_provider, "get_tracer")
        _check("meter_provider", meter_provider, "get_meter")
        self._ledger = Ledger() if metrics else None
        self._words = ErrorWords()
        self._spans: Spans | None = None
        self._durations: _Durations | None = None
        if traces:
            self._tracer = get_tracer(_NAME, tracer_provider=tracer_provider, schema_url=_SCHEMA)
            self._spans = Spans(self._tracer, self._words, are_roots=root_spans, has_query_text=query_text)
        if metrics or durations:
            meter = get_meter(_NAME, meter_provider=meter_provider, schema_url=_SCHEMA)
            if durations:
                self._durations = _Durations(meter, self._words)
            if self._ledger is not None:
                _observe(meter, self._ledger)
        if self._spans is not None and self._durations is None:
            self.wants_this_call = self._spans.is_wanted  # type: ignore[method-assign]  # which saves a call

    @property
    def wants_calls(self) -> bool:
        """See ``CommandHook``."""
        return self._spans is not None or self._durations is not None

    def attached(self, origin: Origin) -> None:
        """See ``CommandHook``."""
        if self._ledger is not None:
            self._ledger.add(origin)
        if self._durations is not None:
            self._durations.add(origin)
        if self._spans is not None:
            ReconnectSpans(self._tracer, origin)

    def before(self, call: Call) -> Span | None:
        """See ``CommandHook``."""
        spans = self._spans
        if spans is None or (self._durations is not None and not spans.is_wanted()):  # else that was asked before
            return None
        return spans.start(call)

    def after(self, call: Call, noted: Span | None) -> None:
        """See ``CommandHook``."""
        if noted is not None and self._spans is not None:
            self._spans.end(noted, call)
        if self._durations is not None:
            self._durations.record(call)

    def error(self, call: Call, noted: Span | None) -> None:
        """See ``CommandHook``."""
        self.after(call, noted)


class _Durations:
    """Records how long calls took.

    The attributes of a series are made once. There are as many as there are commands, ways to fail and databases.
    """

    def __init__(self, meter: Meter, words: ErrorWords) -> None:
        self._words = words
        self._series: dict[tuple[Any, ...], dict[str, AttributeValue]] = {}
        self._pools: dict[Origin, dict[str, AttributeValue]] = {}
        self._duration = _histogram(meter, "db.client.operation.duration", "Duration of database client operations.")
        self._wait = _histogram(
            meter,
            "db.client.connection.wait_time",
            "The time until a command was written: for a connection, a lease, or behind others.",
        )
        self._nowhere = Context()  # so that nobody looks for the current one

    def add(self, origin: Origin) -> None:
        """Be ready for the calls of a client."""
        for other in list(self._pools):  # clients may be made in several threads
            if other.is_gone:
                self._pools.pop(other, None)
        self._pools[origin] = {"db.client.connection.pool.name": identity_of(origin).pool_name}

    def record(self, call: Call) -> None:
        """Record a call that has ended."""
        origin, error = call.origin, call.error
        operation, kind = operation_of(call), None if error is None else self._words.error_type(error)
        series = self._series.get((origin.host, origin.port, call.db, operation, kind))
        if series is None:
            series = self._begin(call, operation, kind)
        self._duration.record(call.duration, series, self._nowhere)
        if call.written is not None:
            self._wait.record(call.queue_time, self._pools[origin], self._nowhere)

    def _begin(self, call: Call, operation: str, kind: str | None) -> dict[str, AttributeValue]:
        if len(self._series) >= _MOST_SERIES:
            self._series.clear()
        series = operation_attributes(call, operation)
        if call.error is not None and kind is not None:
            series["error.type"] = kind
            if (code := self._words.status_code(call.error)) is not None:
                series["db.response.status_code"] = code
        self._series[call.origin.host, call.origin.port, call.db, operation, kind] = series
        return series


def _histogram(meter: Meter, name: str, description: str) -> Histogram:
    return meter.create_histogram(name, unit="s", description=description, explicit_bucket_boundaries_advisory=BUCKETS)


def _observe(meter: Meter, ledger: Ledger) -> None:
    """Let what clients count be read when it is collected."""
    for measure in (*CONVENTIONAL, *OWN):
        match measure.kind:
            case Kind.COUNTER:
                create: Any = meter.create_observable_counter
            case Kind.LEVEL:
                create = meter.create_observable_up_down_counter
            case _:
                create = meter.create_observable_gauge
        create(measure.name, [_callback(ledger, measure)], unit=measure.unit, description=measure.meaning)
    meter.create_observable_up_down_counter(
        "db.client.connection.max",
        [lambda _: [Observation(each.max_connections, _pool_of(each.identity)) for each in ledger.read()]],
        unit="{connection}",
        description="The maximum number of open connections allowed.",
    )


def _callback(ledger: Ledger, measure: Measure) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for reading in ledger.read():
            pool = _pool_of(reading.identity)
            for labels, value in ledger.values(measure, reading):
                yield Observation(value, pool | dict(zip(measure.labels, labels, strict=True)))

    return observe


def _pool_of(identity: Identity) -> dict[str, AttributeValue]:
    pool: dict[str, AttributeValue] = {"db.system.name": "redis", "server.address": identity.host}
    if identity.port is not None:
        pool["server.port"] = identity.port
    return pool | {"db.namespace": str(identity.db), "db.client.connection.pool.name": identity.pool_name}


def _check(name: str, provider: object, method: str) -> None:
    if provider is not None and not callable(getattr(provider, method, None)):
        kind = type(provider).__name__
        raise ConfigurationError(f"{name} must be one of OpenTelemetry's, with {method}(), or None, not a {kind}")
