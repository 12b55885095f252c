"""The three kinds of `ray.util.metrics`, which keep what is recorded, by Ray's rules for values and labels."""

from __future__ import annotations

from typing import Any


class Recorded:
    """Stands where the module does. values: name -> labels with values, sorted -> what a scrape would show.

    Of a histogram, every observation.
    """

    def __init__(self) -> None:
        self.values: dict[str, dict[tuple[tuple[str, str], ...], Any]] = {}
        self.Counter = self.Gauge = self.Histogram = self._make

    def of(self, name: str, **labels: str) -> Any:
        """What was recorded under a name and its labels; None if nothing was."""
        return self.values[name].get(tuple(sorted(labels.items())))

    def _make(
        self, name: str, description: str, tag_keys: tuple[str, ...], boundaries: list[float] | None = None
    ) -> Kind:
        assert description
        assert boundaries is None or 0 < boundaries[0] <= boundaries[-1]
        return Kind(self, name, tag_keys)


class Kind:
    """One metric of whichever kind."""

    def __init__(self, home: Recorded, name: str, keys: tuple[str, ...]) -> None:
        assert name not in home.values, "one metric per name"
        self.values, self.keys, self.default = home.values.setdefault(name, {}), keys, dict[str, str]()

    def set_default_tags(self, tags: dict[str, str]) -> None:
        assert set(tags) <= set(self.keys)
        self.default = tags

    def _labels(self, tags: dict[str, str]) -> tuple[tuple[str, str], ...]:
        labels = {**self.default, **tags}
        assert set(labels) == set(self.keys), "all labels, and no others"
        assert all(isinstance(value, str) for value in labels.values())
        return tuple(sorted(labels.items()))

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0, "Ray refuses to add nothing"
        labels = self._labels(tags)
        self.values[labels] = self.values.get(labels, 0) + value

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values[self._labels(tags)] = value

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self.values.setdefault(self._labels(tags), []).append(value)
