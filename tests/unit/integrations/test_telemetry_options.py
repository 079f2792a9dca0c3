"""What the telemetry hooks do not take, and how they say that their extra is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aioredis_kit import ConfigurationError
from aioredis_kit.integrations.opentelemetry import OpenTelemetry


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracer_provider": 5}, "tracer_provider must be one of OpenTelemetry's, with get_tracer"),
        ({"meter_provider": object()}, "meter_provider must be one of OpenTelemetry's, with get_meter"),
        ({"durations": "yes please"}, "durations"),
    ],
)
def test_what_it_does_not_take(options, message):
    with pytest.raises(ConfigurationError, match=message):
        OpenTelemetry(**options)


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [("opentelemetry", "opentelemetry", "otel"), ("prometheus", "prometheus_client", "prometheus")],
)
def test_without_the_extra(module, library, extra):
    code = f"import sys; sys.modules[{library!r}] = None; import aioredis_kit.integrations.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"ImportError: aioredis_kit.integrations.{module} needs" in done.stderr
    assert f'pip install "aioredis_kit[{extra}]"' in done.stderr
