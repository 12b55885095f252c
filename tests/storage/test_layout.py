"""Names in a run and back."""

from __future__ import annotations

import pytest

from synood_ray.storage import layout
from synood_ray.storage.layout import ErrorName


def test_names() -> None:
    assert layout.prompts_key(123) == "prompts/part-000123.parquet"
    assert layout.part_key(123) == "parts/part-000123.parquet"
    assert layout.part_key(123, retry=2) == "parts/part-000123-r2.parquet"
    assert layout.error_key("parts", 123, 2) == "errors/part-000123-a2.json"
    assert layout.error_key("prompts", 7, 3, final=True) == "errors/prompts-000007-a3-final.json"
    assert layout.shard_key(7, 40) == "data/train-00007-of-00040.parquet"


@pytest.mark.parametrize("unit", [0, 7, 999_999, 1_000_000, 123_456_789])
def test_names_are_read_back(unit: int) -> None:
    assert layout.prompts_unit(layout.prompts_key(unit)) == (unit, 0)
    assert layout.prompts_unit(layout.prompts_key(unit, 3)) == (unit, 3)
    assert layout.part_unit(layout.part_key(unit)) == (unit, 0)
    assert layout.part_unit(layout.part_key(unit, 11)) == (unit, 11)
    for stage in ("prompts", "parts"):
        for final in (False, True):
            name = layout.error_key(stage, unit, 12, final)  # type: ignore[arg-type]
            assert layout.parse_error(name) == ErrorName(stage, unit, 12, final)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "key", ["run.json", "parts/part-12.parquet", "parts/part-000001.parquet.tmp", "x/parts/part-000001.parquet", ""]
)
def test_other_names_are_not_taken_for_ours(key: str) -> None:
    assert layout.prompts_unit(key) is layout.part_unit(key) is layout.parse_error(key) is None
