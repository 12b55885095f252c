"""`synood report`: where the page goes, what is opened, the sheet; what the page shows: tests/report."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from synood_ray.cli.main import main
from synood_ray.report.sheet import CELL, GAP
from synood_ray.storage.stores import open_store
from tests.storage.conftest import moto_endpoint, moto_uri  # noqa: F401
from tests.training.run_folder import make_run, make_settings


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A browser that notes what it is asked to open, in this file."""
    script, noted = tmp_path / "browser", tmp_path / "opened"
    script.write_text(f'#!/bin/sh\necho "$1" >> {noted}\n')
    script.chmod(0o755)
    monkeypatch.setattr("webbrowser._tryorder", None)  # it looks at the environment once
    monkeypatch.setattr("webbrowser._tryorder", None)  # it looks at the environment once
    monkeypatch.setenv("BROWSER", f"{script} %s")
    return noted


def test_the_page_goes_into_the_run(tmp_path: Path, browser: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path, "none")
    make_run(settings)
    run = settings.output
    for _ in range(2):  # the second takes the place of the first
        assert main(["report", "--run", run, "--open"]) == 0
    page = Path(run) / "report" / "index.html"
    assert capsys.readouterr().out.splitlines() == [f"report: {page}"] * 2
    assert page.read_text().startswith("<!doctype html>")
    assert browser.read_text().split() == [page.as_uri()] * 2


def test_elsewhere_with_a_folder_of_pictures(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "none")
    make_run(settings)
    target = tmp_path / "pages"
    assert main(["report", "--run", settings.output, "--images", "folder", "--to", str(target)]) == 0
    assert (target / "index.html").is_file() and len(list(target.rglob("*.webp"))) == 10
    assert not (Path(settings.output) / "report").exists()
    small = tmp_path / "two.jpg"
    assert main(["report", "--run", settings.output, "--sheet", str(small), "--samples", "2"]) == 0
    assert Image.open(small).format == "JPEG" and Image.open(small).width == 2 * (CELL + GAP) + GAP


def test_of_a_run_on_s3(
    tmp_path: Path,
    moto_uri: str,  # noqa: F811
    browser: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = make_settings(tmp_path, "none")
    settings.output = moto_uri
    store = make_run(settings)
    assert main(["report", "--run", moto_uri]) == 0
    assert store.get("report/index.html").startswith(b"<!doctype html>")
    assert main(["report", "--run", moto_uri, "--open"]) == 0
    opened = Path(browser.read_text().strip().removeprefix("file://"))
    assert opened.read_bytes() == store.get("report/index.html")
    assert capsys.readouterr().out.splitlines() == [f"report: {moto_uri}/report/index.html", f"report: {opened}"]


def test_a_contact_sheet(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "none")
    make_run(settings)
    file = tmp_path / "sheet.png"
    assert main(["report", "--run", settings.output, "--sheet", str(file)]) == 0
    sheet = Image.open(file).convert("RGB")
    colours = {colour for _, colour in sheet.resize((sheet.width // 4, sheet.height // 4)).getcolors(1 << 20) or []}
    assert sheet.width > 5 * 112 and len(colours) > 50
    assert not (Path(settings.output) / "report").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--images", "beside"], "--images 'beside': one of page, folder"),
        (["--sheet", "sheet.gif"], "--sheet sheet.gif: name a .png or .jpg file"),
        (["--sheet", "sheet.png", "--samples", "0"], "--samples '0': give 1 to 480"),
        (
            ["--sheet", "nowhere/sheet.png"],
            "--sheet nowhere/sheet.png: name a .png or .jpg file in a folder",
        ),
        (["--sampling.rounds", "3"], "sampling.rounds: was fixed when the run was made"),
    ],
)
def test_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str) -> None:
    assert main(["report", "--run", str(tmp_path), *options]) == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")


def test_without_an_accepted_sample_there_is_no_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path, "none")
    make_run(settings, accept=False)
    assert main(["report", "--run", settings.output, "--sheet", str(tmp_path / "sheet.png")]) == 2
    assert "no sample is accepted yet" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()
    assert open_store(settings.output).exists("manifest.json")
