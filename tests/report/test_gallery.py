"""The report in a real Chromium: filters, search, larger view, keys, phone, dark; nothing is asked of anybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synood_ray.report.page import render, write_report
from synood_ray.storage.run import Run
from synood_ray.storage.stores import open_store
from tests.report.test_page import EVALUATION
from tests.training.run_folder import make_run, make_settings
from tools.browser import Chromium, chromium, find_chromium

READY = "document.getElementById('gallery').dataset.ready == 'true'"
COUNT = "document.querySelector('[data-is=count]').textContent"
KEYS = "[...document.querySelectorAll('[data-key]')].map(card => card.dataset.key)"
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = make_settings(tmp_path_factory.mktemp("gallery"), "no clip is loaded")
    store = make_run(settings)
    write_report(store, settings, EVALUATION)
    beside = Path(settings.output) / "beside"
    html = render(Run.open(store), settings, EVALUATION, open_store(str(beside)))
    (beside / "index.html").write_text(html)
    return Path(settings.output)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if find_chromium() is None:
        pytest.skip("chromium is not installed (Debian package chromium)")
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(browser: Chromium, folder: Path) -> Iterator[Chromium]:
    """The report, newly opened; afterwards: no error was told, and nothing but the page itself was asked for."""
    url = (folder / "report" / "index.html").as_uri()
    browser.requests.clear()
    browser.told.clear()
    browser.open(url)
    browser.wait(READY)
    yield browser
    assert browser.told == []
    assert {request.partition("#")[0] for request in browser.requests} == {url}


def choose(page: Chromium, **wanted: str) -> list[str]:
    """Fill the form as a person does (choices by their text without the number); the keys that are shown then."""
    for name, value in wanted.items():
        found = page.run(
            f"""(() => {{
              const field = document.querySelector('form').elements[{name!r}];
              const option = [...(field.options || [])].find(o => o.text.replace(/ \\(\\d+\\)$/, '') == {value!r});
              field.value = option ? option.value : {value!r};
              field.dispatchEvent(new Event('input', {{bubbles: true}}));
              return !field.closest('label, fieldset').hidden;
            }})()"""
        )
        assert found, f"{name} is not offered"
    return page.run(KEYS)


def test_all_samples_are_there_and_the_accepted_come_first(page: Chromium) -> None:
    assert page.run(COUNT) == "12 samples"
    states = page.run("[...document.querySelectorAll('.sample')].map(card => card.className.split(' ')[1])")
    assert states == ["accepted"] * 6 + ["rejected"] * 4 + ["failed"] * 2
    assert page.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.run("document.images.length") == 20


def test_filters_and_search(page: Chromium) -> None:
    assert len(choose(page, outcome="rejected")) == 4 and page.run(COUNT) == "4 of 12 samples"
    assert len(choose(page, reason="never came into the band within its rounds")) == 4
    assert choose(page, outcome="accepted") == []
    assert not page.run("document.querySelector('[data-is=nothing]').hidden")
    assert choose(page, outcome="all", reason="all", policy="blend") == page.run(KEYS)
    assert page.run(COUNT) == "6 of 12 samples"
    names = page.run("[...document.querySelectorAll('.name')].map(name => name.textContent)")
    assert {"half red fox, half kite", "half green frog, half kite"} < set(names)
    page.run("document.querySelector('[type=reset]').click()")
    page.wait(f"{COUNT} == '12 samples'")
    foxes = choose(page, label="red fox")
    assert len(foxes) == 4
    assert choose(page, text=f"fox grass {foxes[0][-4:]}") == foxes[:1]
    assert page.run("location.hash") == f"#text=fox+grass+{foxes[0][-4:]}&label=red+fox"
    assert choose(page, text="walrus") == []
    assert len(choose(page, text="", label="all", high="0.5")) == 6
    assert choose(page, high="", order="as planned") == sorted(page.run(KEYS))
    assert choose(page, order="highest margin", outcome="rejected")[0] == "00000003"


def test_an_address_brings_back_what_was_shown(page: Chromium, folder: Path) -> None:
    url = (folder / "report" / "index.html").as_uri()
    page.open(f"{url}#outcome=rejected&label=blue+bus&sample=00000003")
    page.wait(READY)
    assert page.run("document.querySelector('dialog').open")
    assert page.run("document.querySelector('[data-is=title]').textContent") == page.run(
        "document.querySelector('dialog dd:nth-of-type(3)').textContent"
    )
    page.run("document.querySelector('dialog').close(); document.querySelector('.funnel a').click()")
    page.wait(f"{COUNT} == '4 of 12 samples'")  # the reason in the funnel leads to its samples


def test_the_larger_view_by_keyboard(page: Chromium) -> None:
    first, second = page.run(KEYS)[:2]
    page.run("document.querySelector('.sample').focus()")
    page.press("Enter", "\r")
    page.wait("document.querySelector('dialog').open")
    assert first in page.run("document.querySelector('dialog dl').textContent")
    assert page.run("document.querySelector('[data-is=title]').textContent").endswith(", half kite")
    assert page.run("document.querySelectorAll('dialog .frame img').length") == 3
    assert page.run("document.querySelectorAll('dialog .mask rect').length") == 1
    assert page.run("document.querySelector('.trace-chart').getAttribute('aria-label')") == (
        "margin by round: +1.40, +0.70, +0.10; band from −0.25 to +0.25"
    )
    page.press("ArrowRight")
    assert second in page.run("document.querySelector('dialog dl').textContent")
    page.press("ArrowLeft")
    page.press("Escape")
    page.wait("!document.querySelector('dialog').open")
    assert page.run("document.activeElement.dataset.key") == first


def test_text_of_models_stays_text(page: Chromium) -> None:
    page.run("document.querySelector('.sample').click()")
    assert "A photo of <i>grass</i>, sky." in page.run("document.querySelector('dialog dl').textContent")
    assert page.run("document.querySelectorAll('dialog dl i').length") == 0


def test_everything_that_is_used_has_a_name(page: Chromium) -> None:
    """As Chromium tells it to a screen reader."""
    page.run("document.querySelector('.sample').click()")
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
    ]
    roles = (
        "button",
        "image",
        "textbox",
        "searchbox",
        "combobox",
        "spinbutton",
        "dialog",
        "link",
        "img",
        "graphics-document",
    )
    used = [(role, name) for role, name in found if role in roles]
    assert ("button", "next sample") in used and len(used) >= 7
    assert [role for role, name in used if not name] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_window(page: Chromium, folder: Path, dark: bool) -> None:
    page.open((folder / "report" / "index.html").as_uri(), width=390, height=844, dark=dark)
    page.wait(READY)
    page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.run(SIDEWAYS) == 0
    wide = "[...document.querySelectorAll('main *')].filter(e => e.scrollWidth > 390 && !e.closest('svg')).length"
    assert page.run(wide) == 0
    page.run("document.querySelector('.sample').click()")
    assert page.run("document.querySelector('dialog').scrollWidth <= 390")
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    assert (page.run(brightness) < 60) == dark


def test_pictures_in_a_folder_are_the_only_thing_asked_for(browser: Chromium, folder: Path) -> None:
    browser.requests.clear()
    browser.open((folder / "beside" / "index.html").as_uri())
    browser.wait(READY)
    browser.wait("document.images[0].complete")
    assert browser.run("document.images[0].naturalWidth") == 3 * 24
    assert all(request.startswith((folder / "beside").as_uri()) for request in browser.requests)
    assert len({request for request in browser.requests if request.endswith(".webp")}) == 10
