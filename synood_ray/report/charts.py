"""Small SVG charts for the report. Colours come from the page's style sheet, so they follow its light or dark theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Series:
    """Values to draw, the name in the legend, and the CSS class that gives the colour (``s-NAME``)."""

    name: str
    css: str
    values: Sequence[float]


@dataclass(frozen=True)
class _Frame:
    """The plotting area inside a chart, and the scales of both axes."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: int = 420
    height: int = 260
    left: int = 52
    right: int = 12
    top: int = 12
    bottom: int = 40

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(self.left + (value - low) / (high - low) * (self.width - self.left - self.right), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(self.height - self.bottom - (value - low) / (high - low) * self._inner_height, 1)

    @property
    def _inner_height(self) -> float:
        return self.height - self.top - self.bottom

    def axes(self, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str) -> str:
        bottom, right = self.y(self.y_range[0]), self.x(self.x_range[1])
        parts = [
            f'<line class="grid" x1="{self.left}" x2="{right}" y1="{self.y(v)}" y2="{self.y(v)}"/>'
            f'<text class="tick" x="{self.left - 6}" y="{self.y(v) + 4}" text-anchor="end">{v:g}</text>'
            for v in y_ticks
        ]
        parts += [
            f'<text class="tick" x="{self.x(v)}" y="{bottom + 16}" text-anchor="middle">{v:g}</text>' for v in x_ticks
        ]
        middle = (self.left + right) / 2
        parts.append(f'<line class="axis" x1="{self.left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        parts.append(
            f'<text class="label" x="{middle}" y="{self.height - 6}" text-anchor="middle">{escape(x_label)}</text>'
        )
        centre = self.top + self._inner_height / 2
        parts.append(
            f'<text class="label" transform="rotate(-90 12 {centre})" x="12" y="{centre}" '
            f'text-anchor="middle">{escape(y_label)}</text>'
        )
        return "".join(parts)

    def svg(self, content: str, title: str) -> Markup:
        return Markup(
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(title)}">{content}</svg>'
        )


def histogram(
    edges: Sequence[float],
    series: Sequence[Series],
    x_label: str,
    *,
    band: Sequence[float] | None = None,
    y_label: str = "share of images",
) -> Markup:
    """Overlaid bars between edges (values: one share a bin); band: a shaded interval on the x axis."""
    peak = max((max(s.values, default=0.0) for s in series), default=0.0) or 1.0
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if peak / s <= 5 or s == 0.5)
    frame = _Frame((edges[0], edges[-1]), (0.0, peak * 1.08))
    parts = []
    if band is not None:
        low, high = (frame.x(min(max(end, edges[0]), edges[-1])) for end in band)
        parts.append(
            f'<rect class="band" x="{low}" y="{frame.top}" width="{round(high - low, 1)}" '
            f'height="{frame.height - frame.top - frame.bottom}"/>'
        )
    ticks = [i * step for i in range(int(peak * 1.08 / step) + 1)]
    parts.append(frame.axes(_whole_ticks(edges[0], edges[-1]), ticks, x_label, y_label))
    for s in series:
        bars = "".join(
            f'<rect x="{frame.x(left)}" y="{frame.y(value)}" width="{round(frame.x(right) - frame.x(left), 1)}" '
            f'height="{round(frame.y(0) - frame.y(value), 1)}"/>'
            for left, right, value in zip(edges, edges[1:], s.values, strict=False)
            if value > 0
        )
        parts.append(f'<g class="bars {s.css}">{bars}</g>')
    return frame.svg("".join(parts), f"histogram of {', '.join(s.name for s in series)}")


def roc(series: Sequence[Series]) -> Markup:
    """ROC curves; values are the share of ID images kept at evenly spaced shares of OOD images let in."""
    frame = _Frame((0.0, 1.0), (0.0, 1.0))
    ticks = [0, 0.25, 0.5, 0.75, 1]
    parts = [frame.axes(ticks, ticks, "OOD images let in", "ID images kept")]
    left, right = frame.x(0), frame.x(1)
    parts.append(f'<line class="target" x1="{left}" x2="{right}" y1="{frame.y(0.95)}" y2="{frame.y(0.95)}"/>')
    parts.append(f'<line class="chance" x1="{left}" x2="{right}" y1="{frame.y(0)}" y2="{frame.y(1)}"/>')
    for s in series:
        points = " ".join(f"{frame.x(i / (len(s.values) - 1))},{frame.y(v)}" for i, v in enumerate(s.values))
        parts.append(f'<polyline class="curve {s.css}" points="{points}"/>')
    return frame.svg("".join(parts), f"ROC curves of {', '.join(s.name for s in series)}")


def _whole_ticks(low: float, high: float) -> list[float]:
    step = max(1, round((high - low) / 8))
    first = int(-(-low // step)) * step
    return [float(v) for v in range(first, int(high) + 1, step)]
