"""Prometheus: a collector that reads clients when it is scraped.

Rules of this file:

1. A scrape may come in another thread than a client's: it reads what is there, and waits for no event loop.
2. Durations, if they are wanted, are counted in plain lists; what Prometheus makes of them is made at the scrape.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, TypeAlias

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.hooks import CommandHook
from aioredis_kit.integrations.ledger import Ledger, identity_of
from aioredis_kit.integrations.measures import MEASURES, Kind, Measure
from aioredis_kit.kinds import FLAG

try:
    from prometheus_client.core import REGISTRY, CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.registry import CollectorRegistry
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs prometheus-client: pip install "aioredis_kit[prometheus]"') from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aioredis_kit.hooks import Call, Origin
    from aioredis_kit.integrations.ledger import Identity

    Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
    Cell: TypeAlias = list[float]  # how many calls per bucket, and the sum of their durations
    Cells: TypeAlias = dict[tuple[str, str], Cell]

__all__ = ["BUCKETS", "PrometheusCollector"]

BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Into what durations are sorted, in seconds; longer ones are in ``+Inf``."""

_BOUNDS: Final = (*map(str, BUCKETS), "+Inf")
_CLIENT: Final = ("address", "db", "client")
_UNITS: Final = {"s": "_seconds", "By": "_bytes"}


class PrometheusCollector(CommandHook):
    """Shows clients to Prometheus: ``create_client(..., hooks=PrometheusCollector())``.

    One is given to all clients. Each metric has the labels ``address``, ``db`` and ``client`` (its name); those of the
    same labels are one series, whose counters never go back, also if a client is opened again or forgotten.

    It can't be used in prometheus_client's multiprocess mode, which knows no collectors: let each process be scraped.

    Args:
        registry: Where it is registered; ``None``: nowhere, ``collect`` is called by somebody else.
        durations: Whether each call is counted in histograms: of how long it took, by command and outcome, and of how
            long it waited until it was written.

    Raises:
        ConfigurationError: A value is of another type, or the registry has one already.
    """

    def __init__(self, registry: CollectorRegistry | None = REGISTRY, *, durations: bool = False) -> None:
        if registry is not None and not isinstance(registry, CollectorRegistry):
            raise ConfigurationError(f"registry must be a CollectorRegistry or None, not a {type(registry).__name__}")
        self._has_durations: bool = FLAG.value("durations", durations)
        self._ledger = Ledger()
        self._cells: dict[Identity, Cells] = {}
        self._waits: dict[Identity, Cell] = {}
        self._identities: dict[Origin, Identity] = {}
        if registry is not None:
            try:
                registry.register(self)
            except ValueError as error:
                raise ConfigurationError(
                    "the registry has a PrometheusCollector already: give that one to all clients, or unregister it"
                ) from error

    @property
    def wants_calls(self) -> bool:
        """See ``CommandHook``."""
        return self._has_durations

    def attached(self, origin: Origin) -> None:
        """See ``CommandHook``."""
        self._ledger.add(origin)
        if self._has_durations:
            identity = identity_of(origin)
            for other in [other for other in self._identities if other.is_gone]:
                del self._identities[other]
            self._identities[origin] = identity
            self._cells.setdefault(identity, {})
            self._waits.setdefault(identity, _empty_cell())

    def after(self, call: Call, noted: object) -> None:  # noqa: ARG002  # it notes nothing
        """See ``CommandHook``."""
        self._count(call, "ok")

    def error(self, call: Call, noted: object) -> None:  # noqa: ARG002  # it notes nothing
        """See ``CommandHook``."""
        self._count(call, "error" if isinstance(call.error, Exception) else "cancelled")

    def describe(self) -> Iterable[Family]:
        """Return all metrics without a number, as a registry wants to know their names."""
        yield from (_family(measure) for measure in MEASURES)
        if self._has_durations:
            yield from _histograms()

    def collect(self) -> Iterable[Family]:
        """Return all metrics with their numbers. From any thread."""
        readings = self._ledger.read()
        for measure in MEASURES:
            family = _family(measure)
            for reading in readings:
                for labels, value in self._ledger.values(measure, reading):
                    family.add_metric([*_labels(reading.identity), *labels], value)
            yield family
        if self._has_durations:
            yield from self._collect_durations()

    def _count(self, call: Call, outcome: str) -> None:
        identity = self._identities[call.origin]
        cells = self._cells[identity]
        key = call.operation, outcome
        cell = cells.get(key)
        if cell is None:
            cell = cells[key] = _empty_cell()
        duration = call.ended - call.began
        cell[bisect_left(BUCKETS, duration)] += 1
        cell[-1] += duration
        if call.written is not None:
            wait = self._waits[identity]
            waited = call.written - call.began
            wait[bisect_left(BUCKETS, waited)] += 1
            wait[-1] += waited

    def _collect_durations(self) -> Iterator[Family]:
        durations, waits = _histograms()
        for identity, cells in list(self._cells.items()):
            for labels, cell in list(cells.items()):
                _add_cell(durations, [*_labels(identity), *labels], cell)
            _add_cell(waits, _labels(identity), self._waits[identity])
        yield durations
        yield waits


def metric_name(measure: Measure) -> str:
    """Return what Prometheus calls a measure."""
    ending = "_total" if measure.kind is Kind.COUNTER else ""
    return f"aioredis_kit_{measure.name.replace('.', '_')}{_UNITS.get(measure.unit, '')}{ending}"


def _family(measure: Measure) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if measure.kind is Kind.COUNTER else GaugeMetricFamily
    return kind(metric_name(measure), measure.meaning, labels=[*_CLIENT, *measure.labels])


def _histograms() -> tuple[HistogramMetricFamily, HistogramMetricFamily]:
    return (
        HistogramMetricFamily(
            "aioredis_kit_command_duration_seconds",
            "How long calls took, pipelines and transactions as one.",
            labels=[*_CLIENT, "operation", "outcome"],
        ),
        HistogramMetricFamily(
            "aioredis_kit_command_wait_seconds",
            "How long it took until they were written: for a connection, a lease, or behind others.",
            labels=_CLIENT,
        ),
    )


def _labels(identity: Identity) -> list[str]:
    return [identity.address, str(identity.db), identity.client_name]


def _empty_cell() -> Cell:
    return [0.0] * (len(BUCKETS) + 2)


def _add_cell(family: HistogramMetricFamily, labels: list[str], cell: Cell) -> None:
    *counts, total = cell.copy()
    family.add_metric(labels, list(zip(_BOUNDS, itertools.accumulate(counts), strict=True)), total)
