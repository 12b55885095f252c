import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from synood_ray.config.settings import Settings
from synood_ray.report.charts import Series, histogram, roc
from synood_ray.report.figures import headlines
from synood_ray.report.page import render, write_report
from synood_ray.storage.distinct import Diversity
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Store
from tests.training.run_folder import make_run, make_settings

VALUES = {"auroc": 0.8, "fpr95_id_positive": 0.5, "fpr95_ood_positive": 0.6, "aupr_in": 0.7, "aupr_out": 0.75}
BETTER = {"auroc": 0.9, "fpr95_id_positive": 0.3, "fpr95_ood_positive": 0.4, "aupr_in": 0.8, "aupr_out": 0.85}
CURVE = {"roc": [0.0, 0.5, 1.0], "histogram": {"edges": [-1, 0, 1], "id": [0.2, 0.8], "ood": [0.9, 0.1]}}
EVALUATION = {
    "sets": {name: {"neglabel": VALUES, "synood": BETTER} for name in ("far/x", "near/y")},
    "id": {"neglabel": {"accuracy": 0.9}, "synood": {"accuracy": 0.95}},
    "intervals": {"near/y": {"synood": {metric: [v - 0.05, v + 0.05] for metric, v in BETTER.items()}}},
    "curves": {name: {"neglabel": CURVE, "synood": CURVE} for name in ("far/x", "near/y")},
    "images": {name: {"used": 10, "skipped": 1} for name in ("id", "far/x", "near/y")},
    "methods": [
        {"name": "neglabel", "what": "share of the softmax (Jiang et al., ICLR 2024)"},
        {"name": "synood", "what": "detector of this run, training recipe synood"},
    ],
    "notes": ["official: no fine-tuned detector"],
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(tmp_path_factory.mktemp("report"), "no clip is loaded")


@pytest.fixture(scope="module")
def store(settings: Settings) -> Store:
    return make_run(settings)


class Page(HTMLParser):
    """Balanced tags, and every address that the page refers to."""

    VOID = ("meta", "link", "img", "input", "br", "line", "rect", "circle", "polyline")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_ablations_of_ours_are_no_other_methods() -> None:
    control = {"near/y": EVALUATION["sets"]["near/y"] | {"synood_frozen": dict.fromkeys(VALUES, 1.0)}}
    found = headlines(EVALUATION | {"sets": control})
    assert {one["best"] for one in found} == {"neglabel"}
    assert [one["control"] for one in found] == [{"name": "frozen", "value": 1.0, "ahead": None}] * 2


def test_the_page_holds_everything_and_loads_nothing(store: Store, settings: Settings) -> None:
    html = render(Run.open(store), settings, EVALUATION)
    page = Page(html)
    assert not page.open
    assert "Artefacts" not in page.text
    measured = EVALUATION | {"artefacts": {"images": 128, "called_ood": {"neglabel": 0.2, "synood": 0.1}}}
    assert "counted as OOD: neglabel 20.0 %, synood 10.0 %" in Page(render(Run.open(store), settings, measured)).text
    assert page.addresses
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "url(" not in html
    assert "@import" not in html
    for expected in (
        "12",
        "90.0",
        "+10.0",
        "85.0 – 95.0",
        "never came into the band",
        "official",
        "ID positive",
    ):
        assert expected in page.text
    assert page.text.index("near/y · 10 OOD") < page.text.index("far/x · 10 OOD")


def test_diversity_is_told_with_the_classes_that_have_least(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = Run.open(store).status()
    diversity = Diversity(0.005, compared=9, duplicates=4, median=0.2, by_class=[0.3, 0.1])
    monkeypatch.setattr(Run, "status", lambda run: replace(status, diversity=diversity))
    text = Page(render(Run.open(store), settings, EVALUATION)).text
    assert "near-duplicates: 4 rejected" in text and "diversity: 0.200" in text
    low, high = (Run.open(store).classes[label] for label in (1, 0))
    assert f"least diverse classes: {low} 0.100, {high} 0.300" in text


def test_methods_are_shown_by_name_whatever_they_are_called(store: Store, settings: Settings) -> None:
    other = json.loads(json.dumps(EVALUATION).replace("neglabel", "my_score").replace("synood", "my_detector"))
    page = Page(render(Run.open(store), settings, other))
    assert "my_detector; not fine-tuned yet" in page.text
    assert "my_detector" in page.text and "detector of this run, training recipe my_detector" in page.text


def test_an_older_evaluation_without_a_list_of_methods_is_shown(store: Store, settings: Settings) -> None:
    older = json.loads(json.dumps({name: value for name, value in EVALUATION.items() if name != "methods"}))
    for methods in older["sets"].values():
        for values in methods.values():
            del values["aupr_out"]  # a metric of later versions
    page = Page(render(Run.open(store), settings, older))
    assert "AUPR in" in page.text and "95.0" in page.text


def test_text_of_users_is_escaped(store: Store, settings: Settings) -> None:
    html = render(Run.open(store), settings, None)
    assert "broken <b>.jpg" not in html and "broken &lt;b&gt;.jpg" in html


def test_what_to_know_comes_first(store: Store, settings: Settings) -> None:
    page = Page(render(Run.open(store), settings, {**EVALUATION, "warnings": ["too few <images>"]}))
    warnings = [page.text.index(text) for text in ("too few <images>", "2 of 12 samples failed")]
    assert max(warnings) < page.text.index("AUROC")


def test_a_run_that_is_going_has_a_page_too(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"output": str(tmp_path / "run")})
    store = make_run(other)
    store.delete("manifest.json")
    store.delete("publication.json")
    store.delete("parts/part-000001.parquet")
    page = Page(render(Run.open(store), other, None))
    assert "1 of 2 units are sampled" in page.text and "Gallery" in page.text
    assert "Detection" not in page.text
    store.delete("parts/part-000000.parquet")
    page = Page(render(Run.open(store), other, None))
    assert "0 of 2 units are sampled" in page.text and "Gallery" not in page.text


def test_the_report_takes_the_place_of_an_older_one(store: Store, settings: Settings) -> None:
    write_report(store, settings)
    first = store.get("report/index.html")
    assert write_report(store, settings, EVALUATION) == "report/index.html"
    assert store.get("report/index.html") != first


def test_headlines_say_what_is_better() -> None:
    found = {(h["set"], h["metric"]): h for h in headlines(EVALUATION)}
    assert found["near/y", "auroc"]["better"] is True
    assert found["near/y", "fpr95_id_positive"]["better"] is True
    assert {h["best"] for h in found.values()} == {"neglabel"}
    worse = EVALUATION | {"sets": {"near/y": {"neglabel": BETTER, "synood": VALUES}}}
    assert not any(h["better"] for h in headlines(worse))
    assert headlines(EVALUATION | {"sets": {"near/y": {"neglabel": VALUES}}})[0]["after"] is None
    several = {"mcm": BETTER | {"fpr95_id_positive": 0.9}, "neglabel": VALUES, "synood": BETTER}
    best = {h["metric"]: h["best"] for h in headlines(EVALUATION | {"sets": {"near/y": several}})}
    assert best == {"auroc": "mcm", "fpr95_id_positive": "neglabel"}, "each metric against the best of the others"
    assert not any(h["sure"] for h in headlines(EVALUATION)), "no interval, nothing is sure"
    assert headlines(None) == []


def test_headlines_are_of_the_means_where_there_are_several_sets(store: Store, settings: Settings) -> None:
    sets = dict.fromkeys(("near/y", "near/z", "far/x"), EVALUATION["sets"]["near/y"])
    ahead = {"neglabel": {"auroc": [0.1, 0.04, 0.16], "fpr95_id_positive": [-0.2, -0.5, 0.1]}}
    mean = {"sets": ["near/y", "near/z"], "values": sets["near/y"], "intervals": {}, "differences": ahead}
    curves = EVALUATION["curves"] | {"near/z": EVALUATION["curves"]["near/y"]}
    images = EVALUATION["images"] | {"near/z": {"used": 4, "skipped": 0}, "shifted/r": {"used": 7, "skipped": 0}}
    shifted = {"shifted/r": {name: {"accuracy": 0.5, "kept": 0.25} for name in ("neglabel", "synood")}}
    several = EVALUATION | {"sets": sets, "means": {"near": mean}, "curves": curves, "images": images}
    found = [one for one in headlines(several) if one["first"]]
    assert [one["set"] for one in found] == ["near, mean of 2 sets"] * 2 + ["far/x"] * 2
    assert [one["sure"] for one in found[:2]] == [True, False]
    text = " ".join(Page(render(Run.open(store), settings, several | {"shifted": shifted})).text.split())
    assert "+10.0 [+4.0, +16.0] to the best other" in text and "near, mean of 2 sets" in text
    assert "shifted/r · 7 ID images of another kind" in text


def test_charts_stay_inside_their_frame() -> None:
    series = [Series("a", "s-id", [0.0, 0.4, 0.6]), Series("b", "s-ood", [1.0, 0.0, 0.0])]
    for chart in (
        histogram([-3, -1, 1, 3], series, "x", band=(-9, 9)),
        roc([Series("a", "s-mcm", [0, 0.7, 1])]),
        histogram([0, 1], [], "x"),
    ):
        Page(str(chart))
        numbers = [float(n) for n in re.findall(r'(?:x|y|cx|cy|x1|x2|y1|y2)="(-?[\d.]+)"', str(chart))]
        assert all(-0.5 <= n <= 420.5 for n in numbers)
