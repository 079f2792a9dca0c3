"""Prometheus: a collector that reads clients when it is scraped.

Rules of this file:

1. A scrape may come in another thread than a client's: it reads what is there, and waits for no event loop.
2. Nothing is done for a call: what is shown is read of the statistics, durations too.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, TypeAlias

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.hooks import CommandHook
from aioredis_kit.integrations.ledger import Ledger
from aioredis_kit.integrations.measures import MEASURES, Kind, Measure
from aioredis_kit.kinds import FLAG
from aioredis_kit.statistics import DURATION_BOUNDS, merged

try:
    from prometheus_client.core import REGISTRY, CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.registry import CollectorRegistry
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs prometheus-client: pip install "aioredis_kit[prometheus]"') from error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aioredis_kit.hooks import Origin
    from aioredis_kit.integrations.ledger import Identity

    Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

__all__ = ["PrometheusCollector"]

_BOUNDS: Final = (*map(str, DURATION_BOUNDS), "+Inf")
_CLIENT: Final = ("address", "db", "client")
_UNITS: Final = {"s": "_seconds", "By": "_bytes"}


class PrometheusCollector(CommandHook):
    """Shows clients to Prometheus: ``create_client(..., hooks=PrometheusCollector())``.

    One is given to all clients. Each metric has the labels ``address``, ``db`` and ``client`` (its name); those of the
    same labels are one series, whose counters never go back, also if a client is opened again or forgotten.

    It can't be used in prometheus_client's multiprocess mode, which knows no collectors: let each process be scraped.

    Args:
        registry: Where it is registered; ``None``: nowhere, ``collect`` is called by somebody else.
        durations: Whether there are histograms of how long commands took from the write to the reply, by command.

    Raises:
        ConfigurationError: A value is of another type, or the registry has one already.
    """

    def __init__(self, registry: CollectorRegistry | None = REGISTRY, *, durations: bool = False) -> None:
        if registry is not None and not isinstance(registry, CollectorRegistry):
            raise ConfigurationError(f"registry must be a CollectorRegistry or None, not a {type(registry).__name__}")
        self._has_durations: bool = FLAG.value("durations", durations)
        self._ledger = Ledger()
        if registry is not None:
            try:
                registry.register(self)
            except ValueError as error:
                raise ConfigurationError(
                    "the registry has a PrometheusCollector already: give that one to all clients, or unregister it"
                ) from error

    @property
    def wants_durations(self) -> bool:
        """See ``CommandHook``."""
        return self._has_durations

    def attached(self, origin: Origin) -> None:
        """See ``CommandHook``."""
        self._ledger.add(origin)

    def describe(self) -> Iterable[Family]:
        """Return all metrics without a number, as a registry wants to know their names."""
        yield from (_family(measure) for measure in MEASURES)
        if self._has_durations:
            yield _histogram()

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
            histogram = _histogram()
            for reading in readings:
                for name, durations in merged(each.durations for each in reading.statistics).items():
                    counts = list(zip(_BOUNDS, itertools.accumulate(durations.counts), strict=True))
                    histogram.add_metric([*_labels(reading.identity), name], counts, durations.total)
            yield histogram


def metric_name(measure: Measure) -> str:
    """Return what Prometheus calls a measure."""
    ending = "_total" if measure.kind is Kind.COUNTER else ""
    return f"aioredis_kit_{measure.name.replace('.', '_')}{_UNITS.get(measure.unit, '')}{ending}"


def _family(measure: Measure) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if measure.kind is Kind.COUNTER else GaugeMetricFamily
    return kind(metric_name(measure), measure.meaning, labels=[*_CLIENT, *measure.labels])


def _histogram() -> HistogramMetricFamily:
    return HistogramMetricFamily(
        "aioredis_kit_command_server_time_seconds",
        "How long it took from the write of a command to its reply.",
        labels=[*_CLIENT, "operation"],
    )


def _labels(identity: Identity) -> list[str]:
    return [identity.address, str(identity.db), identity.client_name]
