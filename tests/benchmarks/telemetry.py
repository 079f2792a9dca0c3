"""What hooks and telemetry cost: CPU time a command, beside a client without any, in alternating rounds of one process.

Rules of this file:

1. CPU time of this process: the server's, and that of others on the machine, is no matter of hooks.
2. In a round each client has its turn. A ratio is of two turns of one round; the figure is the median of all rounds.
3. Where there is a current span, the client that it is compared with has one too: the application pays for that.
"""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

from aioredis_kit import create_client
from aioredis_kit.hooks import CommandHook
from aioredis_kit.integrations.opentelemetry import OpenTelemetry
from aioredis_kit.integrations.prometheus import PrometheusCollector

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer

_CALLERS: Final = 100
_COMMANDS: Final = 50  # of each caller in a turn: some 10 ms
_NOTHING: Final = "no hook"


class _Bare(CommandHook):
    """Is told of each call, and does nothing about it."""

    def after(self, call: Any, noted: Any) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class _Variant:
    """One client.

    Attributes:
        make_hook: Makes its hook.
        parent: Makes the span that is current for each of its callers; ``None``: none is.
        exporter: What is to be emptied after a turn.
    """

    make_hook: Callable[[], CommandHook] | None = None
    parent: Tracer | None = None
    exporter: InMemorySpanExporter | None = None


def _variants() -> dict[str, _Variant]:
    unsampled = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    sampled = TracerProvider(sampler=ParentBased(ALWAYS_ON), shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    sampled.add_span_processor(SimpleSpanProcessor(exporter))
    metrics = [MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False) for _ in range(4)]
    dropped, kept = unsampled.get_tracer("benchmark"), sampled.get_tracer("benchmark")

    def telemetry(provider: TracerProvider | None = None, **options: Any) -> Callable[[], CommandHook]:
        return lambda: OpenTelemetry(
            tracer_provider=provider, meter_provider=metrics.pop(), traces=provider is not None, **options
        )

    def traces(provider: TracerProvider, **options: Any) -> Callable[[], CommandHook]:
        return lambda: OpenTelemetry(tracer_provider=provider, metrics=False, **options)

    return {
        _NOTHING: _Variant(),
        f"{_NOTHING}, once more": _Variant(),
        f"{_NOTHING}, in spans": _Variant(parent=dropped),
        "OpenTelemetry, metrics alone": _Variant(telemetry()),
        "OpenTelemetry, metrics and traces, parent not sampled": _Variant(telemetry(unsampled), dropped),
        "OpenTelemetry, traces, parent not sampled": _Variant(traces(unsampled), dropped),
        "OpenTelemetry, traces, no parent": _Variant(traces(unsampled)),
        "OpenTelemetry, traces, root spans that the sampler drops": _Variant(traces(unsampled, root_spans=True)),
        "OpenTelemetry, traces, sampled, exported into memory": _Variant(traces(sampled), kept, exporter),
        "OpenTelemetry, metrics with durations": _Variant(telemetry(durations=True)),
        "Prometheus": _Variant(lambda: PrometheusCollector(None)),
        "Prometheus with durations": _Variant(lambda: PrometheusCollector(None, durations=True)),
        "a hook that does nothing": _Variant(_Bare),
    }


async def measure(url: str, rounds: int) -> list[tuple[str, float, float]]:
    """Return for each variant its name, microseconds of CPU a command, and by how much that is more, in percent."""
    variants = _variants()
    turns: dict[str, list[float]] = {name: [] for name in variants}
    async with AsyncExitStack() as stack:
        clients = {}
        for name, variant in variants.items():
            hooks = () if variant.make_hook is None else variant.make_hook()
            clients[name] = await stack.enter_async_context(create_client(url, hooks=hooks))
        await clients[_NOTHING].set("key", "x" * 64)
        for number in range(rounds + 1):
            for name, variant in variants.items():
                took = await _turn(clients[name], variant)
                if number:  # the first warms up
                    turns[name].append(took)
    found = []
    for name, variant in variants.items():
        base = turns[_NOTHING if variant.parent is None else f"{_NOTHING}, in spans"]
        ratio = median(one / other for one, other in zip(turns[name], base, strict=True))
        found.append((name, median(turns[name]), (ratio - 1) * 100))
    return found


async def _turn(client: Any, variant: _Variant) -> float:
    async def call() -> None:
        parent = variant.parent
        with nullcontext() if parent is None else parent.start_as_current_span("request"):
            for _ in range(_COMMANDS):
                await client.get("key")

    gc.collect()
    began = time.process_time()
    await asyncio.gather(*(call() for _ in range(_CALLERS)))
    took = time.process_time() - began
    if variant.exporter is not None:
        variant.exporter.clear()
    return took / (_CALLERS * _COMMANDS) * 1e6
