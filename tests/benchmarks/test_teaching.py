"""The teaching benchmark: its halves, its controls, its differences, and the whole of it at a tiny size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import teaching
from benchmarks.teaching import images, methods, tables
from benchmarks.teaching.images import ALONE, RELEASED, ImageSet
from benchmarks.teaching.measure import Figures, gain
from benchmarks.teaching.methods import ID_ONLY, MIXUP, ORACLE, Seen, mixup, trainees
from benchmarks.teaching.world import halves
from synood_ray.cli.layers import load_preset, resolve
from synood_ray.config.settings import Settings
from synood_ray.mini.world import load_world
from synood_ray.negatives.mining import NegativeLabels


def mini() -> Settings:
    return resolve([load_preset("mini")])[0]


def test_near_classes_are_halved_as_in_the_worlds_oracle_check() -> None:
    first, second = halves()
    names = load_world().near
    assert first | second == set(names) and not first & second and len(first) == len(names) // 2
    assert halves() == (first, second)


def test_every_policy_has_its_sets_and_paints_no_name_of_half_b(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "CACHE", tmp_path)
    sets = images.wanted(mini())
    assert {"context", "blend", f"blend, {ALONE}", "neighbour", RELEASED} <= set(sets)
    assert sets["blend"].prompts.policy == "blend" and sets[RELEASED].sampling.recipe == "official"
    low, high = sets[f"blend, {ALONE}"].sampling.band
    assert low < -1000 and high > 1000 and sets[f"blend, {ALONE}"].sampling.rounds == 1
    for settings in sets.values():
        assert set(Path(settings.prompts.blind or "").read_text().split("\n")[:-1]) == halves()[1]


def test_a_set_of_images_comes_back_as_it_was(tmp_path: Path) -> None:
    made = ImageSet(
        torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8),
        torch.tensor([3, 8]),
        torch.tensor([0.1, -2.0]),
        5,
        30,
        1.5,
    )
    images._write(tmp_path / "deep" / "set.safetensors", made)
    found = images._read(tmp_path / "deep" / "set.safetensors")
    assert torch.equal(found.images, made.images) and torch.equal(found.sources, made.sources)
    assert torch.equal(found.margins, made.margins)
    assert (found.tried, found.calls, found.seconds) == (5, 30, 1.5)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["set.safetensors"]


def seen(classes: int = 3, each: int = 2) -> Seen:
    """Image i of class c is e_c + (i + 1) / 10 e_5; texts are e_c but the third, which leans towards the first."""
    text = torch.eye(6)[:classes].clone()
    text[2] = torch.tensor([0.6, 0.0, 0.8, 0.0, 0.0, 0.0])
    labels = torch.arange(classes).repeat_interleave(each)
    features = torch.eye(6)[labels]
    features[:, 5] = torch.arange(1, each + 1).repeat(classes) / 10
    negatives = NegativeLabels(["kite", "drum"], ["noun", "noun"], torch.eye(6)[3:5], [0.0, 0.0])
    return Seen(
        id_text=text,
        negatives=negatives,
        norms=torch.ones(2),
        sources=features,
        labels=labels,
        held_out=features,
        companions=features[:2] - 1,
        companion_sources=torch.tensor([0, 1]),
        regenerated=features,
        oracle=features[:1],
        sets={"blend": features + 2, f"blend, {ALONE}": features + 3, RELEASED: features - 2, "empty": features[:0]},
    )


def test_mixtures_are_means_of_two_classes() -> None:
    found = mixup(seen(), seed=1)
    assert torch.equal(found, mixup(seen(), seed=1)) and not torch.equal(found, mixup(seen(), seed=2))
    halved = (found[:, :3] == 0.5).sum(dim=1)
    assert halved.tolist() == [2] * 6 and (found[torch.arange(6), seen().labels] == 0.5).all()
    nearest = mixup(seen(), seed=1, nearest=True)
    assert (nearest[[0, 1], 2] == 0.5).all() and (nearest[[4, 5], 0] == 0.5).all()  # the first and the third class


def test_what_every_method_is_trained_on() -> None:
    found = trainees(seen(), mini(), seed=0)
    assert next(iter(found)) == ID_ONLY and "empty" not in found
    assert not len(found[ID_ONLY].data.ood_features) and not len(found[ID_ONLY].data.far_features)
    assert torch.equal(found["blend"].data.ood_features, seen().sources + 2)
    assert found["blend"].settings.offset and not found[f"blend, {methods.NO_OFFSET}"].settings.offset
    assert f"blend, {ALONE}, {methods.NO_OFFSET}" not in found
    assert torch.allclose(found["blend"].data.domain_offset(), torch.ones(6))
    for real in (ORACLE, MIXUP):
        assert not found[real].settings.offset  # real features are not moved from a generator's domain
    own = found[f"{RELEASED}, its own training"].settings
    assert (own.recipe, own.epochs, own.lr, own.label_lr) == ("official", 3, 1e-3, 2e-2)
    assert all(len(one.data.companion_features) == 2 for one in found.values())


def test_a_gain_is_the_difference_over_the_same_drawn_classes() -> None:
    def figures(*values: float) -> Figures:
        return Figures({"auroc": np.array(values)}, {"auroc": 0.5}, 0.1, 0.9)

    base, other = figures(0.8, 0.7, 0.9, 0.8), figures(0.85, 0.75, 0.95, 0.85)
    both = {("test", ID_ONLY, "mcm"): base, ("test", "blend", "mcm"): other + base}
    (metric,) = gain({**both, ("test", "blend", "mcm"): other}, ("test", "blend", "mcm")).values()
    assert metric == pytest.approx({"value": 0.05, "low": 0.05, "high": 0.05})  # draws differ, their differences do not
    assert (other + base).over(2).near["auroc"].tolist() == pytest.approx([0.825, 0.725, 0.925, 0.825])
    assert (other + base).over(2).far["auroc"] == 0.5


def test_a_reading_of_the_test_sets_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "reads.tsv"
    log.write_text(teaching.READS.read_text().splitlines()[0] + "\n")
    monkeypatch.setattr(teaching, "READS", log)
    assert (teaching.count_reads(), teaching.note_reading(), teaching.note_reading()) == (0, 1, 2)
    assert teaching.count_reads() == 2 and len(log.read_text().splitlines()) == 3


@pytest.mark.real
def test_the_whole_on_a_few_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = mini()
    settings.training.epochs, settings.training.label_epochs = 1, 0

    def few(settings: Settings) -> dict[str, Settings]:
        return {"blend": images.changed(settings, "blend", band=images.ANYWHERE, rounds=1)}

    def here(jobs: Any) -> Any:
        return ((i, function(*arguments)) for i, (function, arguments) in enumerate(jobs))

    monkeypatch.setattr(images, "CACHE", tmp_path)
    monkeypatch.setattr(teaching, "wanted", few)
    monkeypatch.setattr(teaching, "HEADS", (0,))
    monkeypatch.setattr(teaching, "_together", here)
    found = tables.show(teaching.benchmark(settings, samples=8, seeds=1), "fused")
    assert found["chosen"] in ("blend", f"blend, {methods.NO_OFFSET}")
    assert set(found["methods"][ID_ONLY]) == {"validation"}
    row = found["methods"]["blend"]["validation"]["neglabel"]
    assert row["gain"]["auroc"]["low"] <= row["gain"]["auroc"]["value"] <= row["gain"]["auroc"]["high"]
    base = found["methods"][ID_ONLY]["validation"]["neglabel"]
    assert row["gain"]["auroc"]["value"] == pytest.approx(row["near"]["auroc"] - base["near"]["auroc"])
    cost = found["images"]["blend"]
    assert 0 < cost["kept"] <= cost["tried"] == 8
    assert cost["denoiser_calls_per_image"] * cost["kept"] == pytest.approx(8 * 5)  # three steps, two of them guided
    assert 0 < cost["structure"] < 1.5
    assert "best policy on validation" in capsys.readouterr().out


def test_kept_images_go_by_all_that_made_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "package/sampling/a.py": "x",
        "clip/open_clip_config.json": "{}",
        "groups.csv": "fox,animal",
        "words.txt": "kite",
        "blind.txt": "lynx",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(images, "PACKAGE", tmp_path / "package")
    settings = Settings()
    settings.inpainter.model, settings.scorer.model = "an/id", str(tmp_path / "clip")
    settings.prompts.groups, settings.prompts.blind = str(tmp_path / "groups.csv"), str(tmp_path / "blind.txt")
    settings.labels.candidates = str(tmp_path / "words.txt")
    seen = [images.made_of(settings)]
    assert images.made_of(settings) == seen[0]
    for name in files:
        (tmp_path / name).write_text(f"{files[name]}2")
        seen.append(images.made_of(settings))
    assert len(set(seen)) == 6
