"""A whole synthesis, with workers that need no models: how it starts, resumes and ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synood_ray import pipeline
from synood_ray.cli import synthesize as command
from synood_ray.cli.arguments import parse
from synood_ray.cli.guard import main_guard
from synood_ray.config.settings import Settings
from synood_ray.data import files
from synood_ray.errors import Unavailable, UserError
from synood_ray.farm.actors import Actors
from synood_ray.farm.reports import UnitReport
from synood_ray.pipeline import Synthesis, synthesize
from synood_ray.storage import layout
from synood_ray.storage.progress import run_status, scan
from synood_ray.storage.publish import retract
from synood_ray.storage.run import Run
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store, StoreUnavailable
from tests.farm.local_ray import make_images, use_local_ray
from tests.farm.stubs import StubDescriber, StubSampler, stub_actors

SAMPLES = 12


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    use_local_ray(monkeypatch)
    data = {"uri": str(make_images(tmp_path / "images", 10)), "per_class": 100}
    return Settings.model_validate(
        {"data": data, "output": str(tmp_path / "run"), "limit": SAMPLES, "farm": {"unit_size": 4}}
    )


def make(settings: Settings, say: Callable[[str], None] = lambda line: None) -> Synthesis:
    return synthesize(settings, say, actors=stub_actors())


def job(*argv: str, actors: Actors | None = None) -> int:
    """`synood synthesize` with stub workers."""
    return command.run(parse(command.COMMAND, argv), actors=actors or stub_actors())


def made(settings: Settings) -> list[str]:
    return [row.key for row in Run.open(open_store(settings.output)).samples()]


def test_a_start_that_died_before_the_manifests_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def died(*arguments: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "encode_sources", died)
        make(settings)
    store = open_store(settings.output)
    assert store.exists(layout.RUN) and not store.exists(layout.ID_MANIFEST)
    found = make(settings)
    assert found.computed == 3 and found.status.published
    assert made(settings) == [f"{i:08d}" for i in range(SAMPLES)]


def test_a_part_beyond_the_plan_counts_for_none_of_its_units(settings: Settings) -> None:
    make(settings)
    store = open_store(settings.output)
    store.put_new(layout.part_key(99), store.get(layout.part_key(0)))  # copied there
    store.delete(layout.part_key(1))
    retract(store)
    said: list[str] = []
    with pytest.raises(UserError, match=r"part-000099.*damaged \(the run has 3 units\)"):
        make(settings, said.append)
    assert "resuming: 2 of 3 units are committed" in said and store.exists(layout.part_key(1))
    synthesize(settings, said.append, retry_failed=True, actors=stub_actors())
    assert not store.exists(layout.part_key(99)) and run_status(store).published
    assert made(settings) == [f"{i:08d}" for i in range(SAMPLES)]


def test_a_run_with_a_unit_given_up_is_published_without_ray(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesize(settings, lambda line: None, actors=stub_actors("error-1"))
    retract(open_store(settings.output))  # as if it had been killed before
    monkeypatch.setitem(sys.modules, "ray", None)  # an import fails
    found = make(settings)
    assert found.status.published and found.status.quarantined == 1 and not found.computed


def test_a_finished_run_answers_without_ray(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(settings)
    monkeypatch.setitem(sys.modules, "ray", None)  # an import fails
    said: list[str] = []
    again = make(settings, said.append)
    assert again.computed == 0 and again.status == first.status
    assert "finished already" in said[-1]


def test_a_run_of_which_all_is_sampled_is_published_without_ray(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(settings)
    retract(open_store(settings.output))
    monkeypatch.setitem(sys.modules, "ray", None)
    said: list[str] = []
    assert make(settings, said.append).status.published
    assert said[0] == "resuming: 3 of 3 units are committed"


def test_more_quarantined_than_tolerated_is_exit_code_3(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    failing = stub_actors("error-1")
    arguments = ["--data", settings.data.uri, "--output", settings.output, "--limit", str(SAMPLES)]
    arguments += ["--data.per_class", "100", "--farm.unit_size", "4"]
    assert job(*arguments, "--farm.max_quarantined", "1", actors=failing) == 0
    assert job(*arguments, actors=failing) == 3, "a rerun says the same"
    assert made(settings) == [f"{i:08d}" for i in range(SAMPLES) if i // 4 != 1]
    said = capsys.readouterr().out
    assert "quarantined: 1 unit;" in said
    assert "no --preset: using the bundled small models, which know drawings only" in said
    assert job(*arguments, "--retry-failed") == 0
    assert made(settings) == [f"{i:08d}" for i in range(SAMPLES)]
    assert job(*arguments, "--retry-failed") == 0
    assert "nothing to retry" in capsys.readouterr().out


def test_a_run_of_which_nothing_is_accepted_says_why_and_has_its_exit_code(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", settings.data.uri, "--output", settings.output, "--limit", str(SAMPLES)]
    arguments += ["--data.per_class", "100", "--farm.unit_size", "4"]
    for _ in ("made", "finished already"):
        assert job(*arguments, actors=stub_actors("vain bad-1")) == 5
        out = capsys.readouterr().out
        assert "no sample was accepted: 7 still show their class, or" in out and "; 4 never came near" in out
        assert "; 1 error: bad luck" in out


class AwayStore:
    """Passes everything on to a store that does not answer any more after so many calls."""

    def __init__(self, store: Store, calls: int) -> None:
        self.store, self.calls = store, calls

    def __getattr__(self, name: str) -> object:
        self.calls -= name != "uri"
        if self.calls < 0:
            raise StoreUnavailable("http://host cannot be reached")
        return getattr(self.store, name)


@pytest.mark.parametrize("calls", [3, 12, 20, 22])
def test_a_store_that_stays_away_ends_the_job_and_loses_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], calls: int
) -> None:
    arguments = ["--data", settings.data.uri, "--output", settings.output, "--limit", str(SAMPLES)]
    arguments += ["--data.per_class", "100", "--farm.unit_size", "4"]
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "open_store", lambda uri: AwayStore(open_store(uri), calls))
        assert main_guard(lambda argv: job(*argv), arguments) == 4
    err = capsys.readouterr().err
    assert "http://host cannot be reached" in err and "the same command resumes" in err and "Traceback" not in err
    assert main_guard(lambda argv: job(*argv), arguments) == 0
    assert made(settings) == [f"{i:08d}" for i in range(SAMPLES)]


def test_a_start_that_cannot_go_on_leaves_nothing_and_the_corrected_command_starts(settings: Settings) -> None:
    def wrong(unit: int) -> None:
        raise UserError("describer.model: no such model")

    with pytest.raises(UserError, match="no such model"):
        synthesize(settings, lambda line: None, actors=stub_actors(describing=wrong))
    assert not list(open_store(settings.output).list())
    settings.describer.model = "another/model"
    assert make(settings).status.published


@pytest.mark.parametrize("units", [0, 1])
def test_a_model_server_that_stays_away_ends_the_job_and_loses_nothing(
    settings: Settings, capsys: pytest.CaptureFixture[str], units: int
) -> None:
    arguments = ["--data", settings.data.uri, "--output", settings.output, "--limit", str(SAMPLES)]
    arguments += ["--data.per_class", "100", "--farm.unit_size", "4", "--farm.max_attempts", "1"]

    def away(unit: int) -> None:
        if unit >= units:
            raise Unavailable("describer.endpoint: http://host/v1 has given no answer for 300 s: HTTP 500: no memory")

    actors = stub_actors(describing=away)
    assert main_guard(lambda argv: job(*argv, actors=actors), arguments) == 4
    out, err = capsys.readouterr()
    assert "http://host/v1 has given no answer for 300 s: HTTP 500: no memory" in err
    assert "the same command resumes" in err and "Traceback" not in err and "published" not in out
    store = open_store(settings.output)
    assert not scan(store, units, "prompts").quarantined and len(scan(store, units).committed) == units
    assert main_guard(lambda argv: job(*argv), arguments) == 0
    assert made(settings) == [f"{i:08d}" for i in range(SAMPLES)]


def test_a_malformed_key_is_told_before_anything_is_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.describer.endpoint = "http://host/v1"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter22\n")
    with pytest.raises(UserError, match="OPENAI_API_KEY") as caught:
        make(settings)
    assert "hunter" not in str(caught.value) and not Path(settings.output).exists()


@pytest.mark.parametrize(("untold", "ends"), [(2, False), (3, True)])
def test_checks_whose_answers_cannot_be_read_are_counted_and_none_if_they_are_most(
    settings: Settings, untold: int, ends: bool
) -> None:
    class Checked(StubSampler):
        def sample(self, *arguments: Any) -> UnitReport:
            return replace(super().sample(*arguments), checked=4, untold=untold)

    actors = replace(stub_actors(), sampler=Checked)
    settings = settings.model_copy(update={"limit": 16})
    said: list[str] = []
    if not ends:
        synthesize(settings, said.append, actors=actors)
        assert "of 16 answers to the semantic check 8 were neither yes nor no; their samples passed it" in said
        return
    with pytest.raises(UserError, match=r"sampling\.mllm_check: of 16 answers of the describer 12 were neither"):
        synthesize(settings, said.append, actors=actors)
    settings = settings.model_copy(deep=True)
    settings.sampling.mllm_check = False
    assert make(settings, said.append).status.published, "it goes on without the check"
    assert "sampling.mllm_check: true in the run, false now: that goes for the samples still to be made" in "".join(
        said
    )


def test_nobody_is_asked_where_contexts_are_recorded(settings: Settings, tmp_path: Path) -> None:
    settings.describer.contexts = str(tmp_path / "contexts.jsonl")
    said: list[str] = []
    make(settings, said.append)
    assert sum("no semantic check by the describer" in line for line in said) == 1


def test_the_key_of_the_model_server_goes_to_the_describers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def keyed(settings: dict[str, Any], output: str, key: str) -> StubDescriber:
        given.append(key)
        return stub_actors().describer(settings, output, key)

    settings.describer.endpoint = "http://user:hunter22@host/v1"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter22")
    said: list[str] = []
    synthesize(settings, said.append, actors=replace(stub_actors(), describer=keyed))
    assert set(given) == {"sk-hunter22"}
    written = b"".join(path.read_bytes() for path in Path(settings.output).rglob("*") if path.is_file())
    assert b"http://host/v1" in written and b"hunter" not in written and "hunter" not in "".join(said)


def test_images_in_a_store_that_does_not_answer_are_the_users_to_mend(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(address: str) -> bytes:
        raise StoreUnavailable("http://host cannot be reached")

    monkeypatch.setattr(files, "read_bytes", away)
    with pytest.raises(UserError, match=r"data.uri: .*http://host cannot be reached; check AWS_ENDPOINT_URL"):
        make(settings)
    assert not Path(settings.output).exists()


def test_a_budget_of_accepted_samples_ends_the_run_and_more_goes_on(settings: Settings) -> None:
    said: list[str] = []
    settings.farm.budget_accepted = 4
    assert not make(settings, said.append).status.published
    assert any(line.startswith("farm.budget_accepted: ") and "goes on" in line for line in said)
    first = run_status(open_store(settings.output)).accepted
    assert 4 <= first < SAMPLES
    assert make(settings, said.append).computed <= 1, "it is used up"
    settings.farm.budget_accepted = None
    assert make(settings, said.append).status.published
    assert made(settings) == [f"{i:08d}" for i in range(SAMPLES)]
