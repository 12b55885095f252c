from typing import Any

from rich.console import Console

from synood_ray.report.table import print_summary
from synood_ray.storage.progress import RunStatus
from tests.report.test_page import EVALUATION, VALUES

STATUS = RunStatus(4, 4, 0, 0, 0, accepted=100, rejected=17, failed=3, published=True, planned_samples=120)


def printed(evaluation: dict | None, **options: Any) -> str:
    console = Console(width=80, **options)
    with console.capture() as captured:
        print_summary(
            STATUS, 120, {"select": 0.4, "synthesis": 61.25}, evaluation, "runs/demo/report/index.html", console
        )
    return captured.get()


def test_summary_names_samples_seconds_and_gain() -> None:
    text = printed(EVALUATION)
    for expected in ("120", "100", "17", "61.2", "near/y AUROC", "neglabel 80.0 → 90.0", "neglabel 50.0 → 30.0"):
        assert expected in text
    assert text.rstrip().endswith("report: runs/demo/report/index.html")


def test_only_a_sure_difference_has_a_colour() -> None:
    terminal = {"force_terminal": True, "color_system": "standard", "no_color": False}
    red, green = "\x1b[31m90.0", "\x1b[32m90.0"
    assert red not in (text := printed(EVALUATION, **terminal)) and green not in text
    sure = {"near/y": {"neglabel": {"auroc": [0.1, 0.04, 0.16]}}}
    assert printed(EVALUATION | {"differences": sure}, **terminal).count(green) == 1


def test_summary_names_the_artefact_measure_if_there_is_one() -> None:
    assert "artefacts" not in printed(EVALUATION)
    measured = EVALUATION | {"artefacts": {"images": 128, "called_ood": {"neglabel": 0.2, "synood": 0.1225}}}
    (line,) = (line for line in printed(measured).splitlines() if "artefacts" in line)
    assert line.split()[-1] == "12.2"
    frozen_alone = EVALUATION | {"artefacts": {"images": 128, "called_ood": {"neglabel": 0.2}}}
    assert "artefacts" not in printed(frozen_alone)


def test_summary_without_an_evaluation() -> None:
    assert "AUROC" not in printed(None)


def test_every_method_is_printed_with_its_interval_and_how_far_ours_is_ahead() -> None:
    ahead = {metric: [0.1, 0.04, 0.16] for metric in VALUES}
    text = printed(EVALUATION | {"differences": {"near/y": {"neglabel": ahead}}})
    row = next(line for line in text.splitlines() if line.strip().startswith("neglabel"))
    assert row.split() == ["neglabel", "80.0", "50.0", "/", "60.0", "+10.0", "[4.0,", "16.0]"]
    ours = [line for line in text.splitlines() if line.strip().startswith("synood ") and "90.0" in line]
    assert ours[0].split() == ["synood", "90.0", "[85.0,", "95.0]", "30.0", "/", "40.0"]
    assert text.index("near/y, 10 images") < text.index("far/x, 10 images")
