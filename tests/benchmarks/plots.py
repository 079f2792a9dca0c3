"""Plots as SVG: no background of their own, and colours that are read on white as on black."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Final

from tests.benchmarks.clients import (
    COREDIS,
    FLOOR,
    GLIDE,
    IOREDIS,
    IOREDIS_AUTO,
    NODE_REDIS,
    OURS,
    REDIS_BENCHMARK,
    REDIS_PY,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_INK: Final = "#77808a"
_BETTER: Final = "#2b8be0"
_WORSE: Final = "#e2483d"
_COLOURS: Final = {
    OURS: _BETTER,
    FLOOR: _INK,
    REDIS_BENCHMARK: _INK,
    REDIS_PY: "#e2483d",
    COREDIS: "#c27c0e",
    GLIDE: "#2f9e44",
    NODE_REDIS: "#b14fd0",
    IOREDIS: "#8a6d5a",
    IOREDIS_AUTO: "#10939f",
}
_DASHED: Final = {FLOOR: "6 4", REDIS_BENCHMARK: "2 4"}
_WIDTH: Final = 760
_LINE_HEIGHT: Final = 15


@dataclass(slots=True)
class _Drawing:
    height: int
    parts: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, content: str, *, anchor: str = "start", colour: str = _INK, is_bold: bool = False
    ) -> None:
        weight = ' font-weight="bold"' if is_bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(content)}</text>'
        )

    def line(
        self,
        points: Iterable[tuple[float, float]],
        colour: str = _INK,
        width: float = 1,
        dashes: str = "",
        opacity: float = 1,
    ) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}"{dashed}/>'
        )

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" rx="2" fill="{colour}"/>'
        )

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>')

    def finish(self, title: str) -> str:
        self.text(0, 16, title, is_bold=True)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {self.height}" width="{_WIDTH}" '
            f'height="{self.height}" font-family="system-ui, Helvetica, Arial, sans-serif" font-size="12" role="img">\n'
            f"<title>{escape(title)}</title>\n" + "\n".join(self.parts) + "\n</svg>\n"
        )


@dataclass(frozen=True, slots=True)
class _Scale:
    """Logarithmic, from one value to another, onto pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, steps: Sequence[float] = (1, 2, 5)) -> Iterable[float]:
        for exponent in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1):
            for step in steps:
                if self.low <= (tick := step * 10.0**exponent) <= self.high * 1.001:
                    yield tick


def lines(title: str, series: Mapping[str, Mapping[int, float]]) -> str:
    """Plot throughput by the number of callers, one line for each client, its name at its end."""
    drawing = _Drawing(400)
    values = [value for points in series.values() for value in points.values()]
    callers = sorted({number for points in series.values() for number in points})
    across = (
        _Scale(callers[0], callers[-1], 46, 556) if len(callers) > 1 else _Scale(callers[0], callers[0] * 2, 46, 556)
    )
    up = _Scale(min(values) * 0.9, max(values) * 1.1, 350, 34)
    for tick in up.ticks():
        drawing.line([(46, up(tick)), (556, up(tick))], opacity=0.25)
        drawing.text(40, up(tick) + 4, f"{tick:g}", anchor="end")
    for number in callers:
        drawing.text(across(number), 370, f"{number}", anchor="middle")
    drawing.text(301, 390, "callers that wait at once; both axes logarithmic", anchor="middle")
    ends = []
    for client, points in series.items():
        at = [(across(number), up(value)) for number, value in sorted(points.items())]
        drawing.line(at, _COLOURS[client], 3 if client == OURS else 1.6, _DASHED.get(client, ""))
        for x, y in at:
            drawing.dot(x, y, 3, _COLOURS[client])
        ends.append((at[-1][1], client, points[max(points)]))
    for y, (_, client, value) in _spread(sorted(ends)):
        drawing.text(566, y + 4, f"{client}  {value:.0f}", colour=_COLOURS[client], is_bold=client == OURS)
    return drawing.finish(title)


def _spread(ends: list[tuple[float, str, float]]) -> list[tuple[float, tuple[float, str, float]]]:
    """Move names apart that would lie on one another: down, and all of them up if they leave the picture."""
    placed: list[float] = []
    for end in ends:
        placed.append(max(end[0], placed[-1] + _LINE_HEIGHT) if placed else end[0])
    excess = max(0.0, placed[-1] - 350)
    for index in range(len(placed) - 1, -1, -1):
        limit = placed[index + 1] - _LINE_HEIGHT if index + 1 < len(placed) else 350
        placed[index] = min(placed[index], limit) if excess else placed[index]
    return list(zip(placed, ends, strict=True))


def ratios(title: str, rows: Sequence[tuple[str, float, str, float]]) -> str:
    """Plot how many times redis-py's throughput this client has, as bars, and how many times that of the fastest peer."""
    row_height = 21
    drawing = _Drawing(66 + row_height * len(rows))
    values = [value for _, to_redis_py, _, to_best in rows for value in (to_redis_py, to_best)]
    across = _Scale(min(0.5, *values) * 0.9, max(values) * 1.1, 190, 545)
    bottom = 50 + row_height * len(rows)
    for tick in across.ticks():
        drawing.line(
            [(across(tick), 44), (across(tick), bottom)], width=1.5 if tick == 1 else 1, opacity=1 if tick == 1 else 0.2
        )
        drawing.text(across(tick), 38, f"{tick:g}x", anchor="middle")
    for number, (name, to_redis_py, best, to_best) in enumerate(rows):
        y = 50 + row_height * number
        drawing.text(182, y + 13, name, anchor="end")
        ends = sorted((across(1), across(to_redis_py)))
        drawing.bar(ends[0], y + 4, max(ends[1] - ends[0], 1), 11, _BETTER if to_redis_py >= 1 else _WORSE)
        drawing.dot(across(to_best), y + 9.5, 4.5, _COLOURS.get(best, _INK))
        drawing.text(560, y + 13, f"{to_best:.1f}x {best}", colour=_INK if to_best >= 1 else _WORSE)
    drawing.text(
        190, bottom + 14, "bar: ÷ redis-py; dot and words: ÷ the fastest peer, red where this client is slower"
    )
    return drawing.finish(title)


def latencies(title: str, groups: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Plot percentiles of latency (seconds), for each load and client a line from the first to the last."""
    row_height = 20
    count = sum(1 + len(by_client) for by_client in groups.values())
    drawing = _Drawing(60 + row_height * count)
    values = [value * 1000 for by_client in groups.values() for each in by_client.values() for value in each.values()]
    across = _Scale(min(values) * 0.8, max(values) * 1.2, 200, 690)
    bottom = 44 + row_height * count
    for tick in across.ticks((1, 3)):
        drawing.line([(across(tick), 40), (across(tick), bottom)], opacity=0.25)
        drawing.text(across(tick), 36, f"{tick:g} ms", anchor="middle")
    y = 44
    for load, by_client in groups.items():
        drawing.text(0, y + 14, load, is_bold=True)
        y += row_height
        for client, found in by_client.items():
            colour = _COLOURS.get(client, _BETTER)
            drawing.text(192, y + 13, client, anchor="end", colour=colour, is_bold=client == OURS)
            at = [across(value * 1000) for value in found.values()]
            drawing.line([(at[0], y + 9), (at[-1], y + 9)], colour, 2)
            for x, radius in zip(at, (5, 4, 3), strict=False):
                drawing.dot(x, y + 9, radius, colour)
            y += row_height
    drawing.text(200, bottom + 12, "dots: p50, p99, p99.9, from when a command was due")
    return drawing.finish(title)
