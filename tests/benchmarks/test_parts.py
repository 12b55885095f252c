"""A benchmark's parts: measured once, whatever stops in between, and anew where something that decides them changes."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import parts
from benchmarks.parts import Part, Parts
from synood_ray.cli.layers import load_preset, resolve

MEASURED: Part = {("near", "frozen", "mcm", "auroc"): np.linspace(0, 1, 4), ("far, of it", "x"): np.zeros((2, 3)).T}


@pytest.fixture(autouse=True)
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parts, "BUILD", tmp_path)
    return tmp_path


def test_a_part_is_measured_once_and_comes_back_as_it_was() -> None:
    settings = resolve([load_preset("mini")])[0]
    kept = Parts("detector", settings, "val", 300)
    assert not kept.begun

    def stopped() -> Part:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.part("head 0", stopped)
    assert not kept.begun
    for measure in (lambda: MEASURED, stopped):
        found = kept.part("head 0", measure)
        assert found.keys() == MEASURED.keys()
        assert all(np.array_equal(found[key], MEASURED[key]) for key in found)
    assert kept.begun
    with pytest.raises(KeyboardInterrupt):
        kept.part("head 1", stopped)


def test_other_settings_another_question_and_other_code_have_parts_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = resolve([load_preset("mini")])[0]
    Parts("detector", settings, "val", 300).part("head 0", lambda: MEASURED)
    assert Parts("detector", settings, "val", 300).begun
    assert not Parts("detector", settings, "test", 300).begun
    other = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": 1})})
    assert not Parts("detector", other, "val", 300).begun
    (tmp_path / "changed.py").write_text("x = 1\n")
    monkeypatch.setattr(parts, "CODE", tmp_path)
    monkeypatch.setattr(parts, "PACKAGE", tmp_path)
    assert not Parts("detector", settings, "val", 300).begun
