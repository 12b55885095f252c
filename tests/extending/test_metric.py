"""docs/extending.md, "A metric", to the letter."""

from pathlib import Path

import pytest

from tests.extending.pages import follow, run

pytestmark = pytest.mark.slow

USE = """
import sys
from pathlib import Path

from rich.console import Console

from synood_ray.detection.evaluate import run_evaluation
from synood_ray.detection.metrics import bootstrap, intervals, ood_metrics
from synood_ray.report.page import write_report
from synood_ray.report.table import print_summary
from synood_ray.storage.progress import run_status
from tests.detection.tiny_clip import save_tiny_clip
from tests.training.run_folder import make_run, make_settings

assert ood_metrics([3, 2, 1, 0], [1.5, 0.5])["best_balance"] == 0.75  # at 2: half of ID, no OOD; at 1: 3/4, 1/2
low, high = intervals(bootstrap([3, 2, 1, 0], [0, 1, 2, 3], [1.5, 0.5], None, 50))["best_balance"]
assert 0.5 <= low <= 0.75 <= high <= 1
folder = Path(sys.argv[1])
settings = make_settings(folder, str(save_tiny_clip(folder / "clip")))
store = make_run(settings)
found = run_evaluation(store, settings)
assert 0.5 <= found["sets"]["far/grey"]["mcm"]["best_balance"] <= 1
assert len(found["intervals"]["far/grey"]["mcm"]["best_balance"]) == 2
assert "balanced accuracy" in store.get(write_report(store, settings, found)).decode()
print_summary(run_status(store), 12, {}, found, "", Console(width=100))
"""


def test_the_page_adds_a_metric_to_evaluation_report_and_table(tmp_path: Path) -> None:
    folder = follow("A metric", tmp_path / "copy")
    assert "near/mixed balanced accuracy" in run(folder, "-c", USE, str(tmp_path))
