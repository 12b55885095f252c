"""Command lines: precedence, errors in one line. Help: `test_help`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synood_ray.cli import benchmark, export, status, synthesize
from synood_ray.cli.arguments import parse
from synood_ray.cli.guard import main_guard
from synood_ray.cli.help import show
from synood_ray.cli.synthesize import short_form
from synood_ray.cli.tree import Leaf, did_you_mean, leaves
from synood_ray.config.settings import Settings
from synood_ray.errors import Unavailable, UserError
from tests.cli.typed import load, refusal, settings_of, write

# What is typed for a value of a setting


HOLDERS = {  # what a string must contain
    "describer.check_question": "{subject}",
    "describer.neighbour_question": "{subject}",
    "describer.box_question": "{subject}",
    "describer.prompt": "{context}",
    "scorer.templates": "{}",
    "labels.noun_prompt": "{}",
    "labels.adjective_prompt": "{}",
}


def _values(leaf: Leaf) -> st.SearchStrategy[Any]:
    """Values that a setting may have, by its type and limits."""
    low = high = None
    for limit in leaf.info.metadata:
        low = getattr(limit, "ge", getattr(limit, "gt", low))
        high = getattr(limit, "le", getattr(limit, "lt", high))
    texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
    if HOLDERS.get(leaf.path) == "{}":
        texts = texts.map(lambda text: text.replace("{", "{{").replace("}", "}}"))
    texts = texts.map(lambda text: text + HOLDERS.get(leaf.path, ""))
    if leaf.path in ("farm.describers.max", "farm.samplers.max"):
        low = 1
    if leaf.path.endswith(".gpus"):
        return st.integers(0, 64).map(float) | st.floats(0.01, 1)
    if leaf.path == "describer.endpoint":
        texts = st.sampled_from(["http://host:8000/v1", "HTTPS://user:p%40ss@[::1]/a?b=c"])
    by_kind: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(int(low or 0), int(high) if high is not None else 10**9),
        float: st.floats((low or 0.0) + 1e-6, high if high is not None else 1e9),
        bool: st.booleans(),
        str: texts.filter(lambda text: text.lower() not in ("null", "none", "~")),
        type(None): st.none(),
    }
    found = []
    for kind in leaf.kinds:
        if kind in by_kind:
            found.append(by_kind[kind])
        elif getattr(kind, "__origin__", None) is list:
            (item,) = kind.__args__
            if item is float:  # an interval
                numbers = st.floats(-9, 9)
                found.append(st.tuples(numbers, numbers).filter(lambda pair: pair[0] < pair[1]).map(list))
                continue
            item = st.sampled_from(item.__args__) if get_origin(item) is Literal else texts
            found.append(st.lists(item, min_size=1, max_size=3))
        elif getattr(kind, "__origin__", None) is dict:
            entry = st.floats(0, 9) if kind.__args__[1] is float else texts
            found.append(st.dictionaries(texts, entry, max_size=3))
        else:
            found.append(st.sampled_from(kind.__args__))
    return st.one_of(found)


SETTABLE = [leaf for leaf in leaves().values() if leaf.path != "preset"]


@pytest.mark.parametrize("leaf", SETTABLE, ids=lambda leaf: leaf.path)
@settings(max_examples=15)
@given(data=st.data())
def test_every_field_can_be_set_on_the_command_line_and_in_a_file(leaf: Leaf, data: st.DataObject) -> None:
    value = data.draw(_values(leaf))
    typed = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).partition("\n...")[0]
    assert leaf.check(leaf.parse(typed.strip("\n") if typed is not value else value), "here") == value
    read = yaml.safe_load(yaml.safe_dump({"x": value}))["x"]
    assert leaf.check(read, "here") == value


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1))
@example("a\x85b")
def test_what_is_shown_can_be_read_back(text: str) -> None:
    assert yaml.safe_load(f"x: {show(text)}\n")["x"] == text


def test_both_spellings() -> None:
    for argv in (["--sampling.rounds", "9"], ["--sampling.rounds=9"]):
        assert settings_of(*argv).sampling.rounds == 9
    assert settings_of("--describer.prompt=a={context} --c").describer.prompt == "a={context} --c"
    assert settings_of("--seed", "1", "--seed", "2").seed == 2


@pytest.mark.parametrize("path", HOLDERS)
def test_a_template_without_its_place_holder_is_refused(path: str) -> None:
    value = "['no holder']" if path == "scorer.templates" else "no holder"
    with pytest.raises(UserError, match=f"{re.escape(path)}: must contain {re.escape(HOLDERS[path])}"):
        settings_of(f"--{path}", value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("localhost:8000", "must begin with http"),
        ("s3://user:hunter22@host/v1", "must begin with http"),
        ("http://", "is no URL"),
        ("http://user:hunter22@host:port/v1", "is no URL"),
        ("http://user:hunter/22@host/v1", "is no URL"),
        ("http://user:hunter22@ho st/v1", "is no URL"),
    ],
)
def test_an_address_that_is_no_servers_is_refused_and_not_shown(address: str, message: str) -> None:
    told = refusal("--describer.endpoint", address)
    assert message in told and "hunter" not in told


def test_a_password_in_an_address_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--output", "x", "--describer.endpoint", "http://user:hunter22@host/v1?key=hunter22"]

    def stay_away(arguments: list[str]) -> int:
        print(short_form(load(*arguments)))
        raise Unavailable("http://user:hunter22@host/v1 is away")

    assert main_guard(stay_away, argv) == 4
    out, err = capsys.readouterr()
    assert "http://host/v1" in out and out.count("http://host/v1") == 1 and err.count("http://host/v1") == 2
    assert "hunter" not in out + err


def test_lists_tables_null_and_numbers() -> None:
    settings = settings_of(
        *("--scorer.templates", "['a {}.', \"the {}, red\"]"),
        *("--evaluation.near", "{a: /x, b: s3://y}", "--evaluation.near.c.d", "/z: 1"),
        *("--farm.samplers.resources.TPU", "0.5"),
        *("--farm.samplers.labels.ray.io/market-type", "spot"),
        *("--data.calibration", "null", "--training.lr", "1e-4", "--sampling.clip_check", "no", "--output", "2024"),
    )
    assert settings.scorer.templates == ["a {}.", "the {}, red"]
    assert settings.evaluation.near == {"a": "/x", "b": "s3://y", "c.d": "/z: 1"}
    assert settings.farm.samplers.resources == {"TPU": 0.5}
    assert settings.farm.samplers.labels == {"ray.io/market-type": "spot"}
    assert (settings.data.calibration, settings.training.lr, settings.sampling.clip_check) == (None, 1e-4, False)
    assert settings.output == "2024"


# Precedence


def test_precedence_is_preset_file_command_line(tmp_path: Path) -> None:
    config = write(tmp_path, "sampling: {rounds: 11, steps: 12}\ndata:\n  per_class: 3\n")
    mini = settings_of("--preset", "mini")
    loaded = load("--config", config, "--sampling.steps", "13", "--preset", "mini")
    settings = loaded.settings
    assert (settings.sampling.rounds, settings.sampling.steps, settings.data.per_class) == (11, 13, 3)
    assert settings.describer.max_new_tokens == mini.describer.max_new_tokens != Settings().describer.max_new_tokens
    assert settings.sampling.restart == Settings().sampling.restart
    assert loaded.origins["sampling.rounds"] == f"{config}, line 1"
    assert loaded.origins["data.per_class"] == f"{config}, line 3"
    assert loaded.origins["sampling.steps"] == "command line"
    assert loaded.origins["describer.model"] == "preset mini"
    assert "sampling.restart" not in loaded.origins


def test_a_default_below_a_section_survives_its_neighbours() -> None:
    assert Settings().farm.samplers.max == 2
    assert settings_of("--farm.samplers.min", "1").farm.samplers.max == 2


def test_single_entries_join_the_tables_below_them(tmp_path: Path) -> None:
    config = write(tmp_path, "evaluation: {far: {x: /x}}")
    settings = settings_of("--config", config, "--evaluation.near.mine", "/near")
    assert settings.evaluation.near == {**settings_of().evaluation.near, "mine": "/near"}
    assert settings.evaluation.far == {"x": "/x"}


def test_the_preset_is_mini_unless_a_model_is_named(tmp_path: Path) -> None:
    assert settings_of().preset == "mini"
    assert settings_of("--data", "/photos").preset == "mini"
    assert settings_of("--scorer.device", "cpu").preset == "mini"
    named = settings_of("--data", "/photos", "--inpainter.model", "/models/sd")
    assert (named.preset, named.scorer.model) == ("", Settings().scorer.model)
    config = write(tmp_path, "scorer: {model: ViT-L-14}")
    assert settings_of("--data", "/photos", "--config", config).preset == ""
    assert settings_of("--preset", "mini", "--config", config).preset == "mini"
    config = write(tmp_path, "preset: imagenet\nseed: 4")
    assert settings_of("--config", config, "--data", "/x").preset == "imagenet"
    assert settings_of("--config", config, "--preset", "mini").preset == "mini"


def test_other_data_leave_the_presets_data_behind(tmp_path: Path) -> None:
    mini, other = settings_of(), settings_of("--data", "/photos")
    assert mini.data.calibration and mini.evaluation.near and mini.evaluation.far and mini.evaluation.id_test
    assert (other.data.uri, other.data.calibration) == ("/photos", None)
    assert (other.evaluation.near, other.evaluation.far, other.evaluation.id_test) == ({}, {}, None)
    assert other.inpainter.model == mini.inpainter.model
    assert other.data.per_class == mini.data.per_class
    kept = settings_of("--data", "/photos", "--data.calibration", "/val", "--evaluation.near.mine", "/near")
    assert (kept.data.calibration, kept.evaluation.near) == ("/val", {"mine": "/near"})
    assert settings_of("--data", mini.data.uri).data.calibration == mini.data.calibration
    config = write(tmp_path, "data: {uri: /a, calibration: /a-val}\nevaluation: {near: {n: /n}}")
    assert settings_of("--config", config).data.calibration == "/a-val"
    assert settings_of("--config", config, "--data", "/b").data.calibration is None
    config = write(tmp_path, "evaluation: {near: {n: /n}}")  # goes with any data
    assert settings_of("--config", config, "--data", "/b").evaluation.near == {"n": "/n"}


# Errors


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--sampling.round 3", "sampling.round: no such setting; did you mean sampling.rounds? (command line)"),
        ("--smapling.rounds 3", "did you mean sampling.rounds?"),
        ("--rounds 3", "--rounds: no such option; did you mean --sampling.rounds?"),
        ("--outptu x", "--outptu: no such option; did you mean --output?"),
        ("--zzz x", "--zzz: no such option"),
        ("--sampling 3", "sampling: is a section; name one of its settings, such as sampling.recipe"),
        ("--sampling.rounds six", "sampling.rounds: must be an integer, at least 1, not 'six' (command line)"),
        ("--sampling.rounds 0", "sampling.rounds: must be an integer, at least 1, not '0'"),
        ("--sampling.rounds 2.5", "sampling.rounds: must be an integer"),
        ("--sampling.recipe newtn", "sampling.recipe: must be one of newton, fresh, official, not 'newtn'"),
        ("--data.holdout 1.5", "data.holdout: must be a number, at least 0, at most 1, not '1.5'"),
        ("--training.lr nan", "training.lr: must be a number, more than 0, not 'nan'"),
        ("--training.lr inf", "training.lr: must be a number, more than 0, not 'inf'"),
        ("--sampling.clip_check perhaps", "sampling.clip_check: must be true or false, not 'perhaps'"),
        ("--scorer.templates []", "scorer.templates: must be a list of strings"),
        ("--scorer.templates [1]", "scorer.templates: must be a list of strings"),
        ("--scorer.templates photo", "scorer.templates: must be a list of strings"),
        ("--scorer.templates [", "scorer.templates: must be a list of strings"),
        ("--evaluation.scores [mcn]", "evaluation.scores: must be a list, each one of mcm, "),
        ("--evaluation.near x", "evaluation.near: must be a table of names and strings, not 'x'"),
        ("--farm.samplers.resources.TPU many", "farm.samplers.resources.TPU: must be a number, not 'many'"),
        ("--farm.samplers.min 5", "farm.samplers: min (5) is larger than max (2)"),
        ("--limit 0", "limit: must be an integer or null, at least 1, not '0'"),
        ("--preset imagnet", "there is no preset 'imagnet'; did you mean imagenet? (presets: imagenet, mini, mini-new"),
        ("--config nowhere.yaml", "config: cannot read nowhere.yaml: No such file or directory"),
        ("--seed", "--seed: needs a value"),
        ("--seed --limit 3", "--seed: needs a value"),
        ("runs/x", "'runs/x': what is this?"),
        ("-x", "'-x': what is this?"),
    ],
)
def test_wrong_options_are_named(argv: str, message: str) -> None:
    assert message in refusal(*argv.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sampling:\n  round: 3\n", "site.yaml, line 2)"),
        ("sampling:\n  round: 3\n", "sampling.round: no such setting; did you mean sampling.rounds?"),
        ("sampling:\n\n  rounds: six\n", "sampling.rounds: must be an integer, at least 1, not 'six' ("),
        ("sampling:\n\n  rounds: six\n", "site.yaml, line 3)"),
        ("sampling: {rounds: yes}", "sampling.rounds: must be an integer, at least 1, not True"),
        ("training: {lr: .inf}", "training.lr: must be a number"),
        ("output: 2024", "output: must be a string, not 2024; quote it"),
        ("sampling: 3", "sampling: is a section"),
        ("data: [", "site.yaml, line 1: not valid YAML"),
        ("seed: 1\ndata: {uri: x\noutput: y", "site.yaml, line 3: not valid YAML"),
        ("seed: 1\n\tlimit: 2", "site.yaml, line 2: not valid YAML"),
        ("seed: !!python/object:os.system x", "not valid YAML"),
        ("seed: 1\nseed: 2", "site.yaml, line 2: seed is set a second time (first in line 1)"),
        ("- a\n- b", "must hold settings as name: value"),
        ("just words", "must hold settings as name: value"),
        ("preset: [mini]", "preset: must be a name"),
        ("preset: minni", "there is no preset 'minni'; did you mean mini?"),
        ("bell: \x07", "site.yaml: not a YAML file"),
    ],
)
def test_wrong_files_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal("--config", write(tmp_path, text))


def test_a_binary_file_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00\x01")
    assert "not a YAML file" in refusal("--config", str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("text", ["", "# nothing\n", "sampling:\n", "sampling.rounds: 7\n", "<<: {seed: 3}\n"])
def test_harmless_files_are_taken(tmp_path: Path, text: str) -> None:
    assert load("--config", write(tmp_path, text)).settings.preset == "mini"


def test_what_is_required() -> None:
    assert refusal("--data", "/x").startswith("output: no run folder named; give --output")
    assert refusal("--preset", "imagenet", "--output", "o").startswith("data.uri: no images named; give --data")
    assert parse(benchmark.COMMAND, ["--preset", "imagenet"]).settings.data.uri == ""
    assert parse(synthesize.COMMAND, ["--output", "o"]).settings.output == "o"
    assert refusal("--run", "x", command=export).startswith("to: no place named; give --to")


def test_options_of_a_command() -> None:
    assert load("--retry-failed", "--limit", "3").options == {"retry-failed": "", "limit": "3", "output": "o"}
    assert "no such option; did you mean --only?" in refusal("--onli", "a", command=benchmark)
    assert "--retry-failed: takes no value" in refusal("--retry-failed=3")
    assert "--retry-failed: no such option" in refusal("--retry-failed", command=benchmark)


def test_logging_is_an_option_of_every_command() -> None:
    assert load().settings.log.level == "info" and load().settings.log.form == "text"
    for command, argv in ((status, ["--run", "x"]), (synthesize, ["--output", "o"])):
        log = parse(command.COMMAND, [*argv, "--log-level", "debug", "--log-json"]).settings.log
        assert (log.level, log.form) == ("debug", "json")
    assert "log.level: must be one of debug, info" in refusal("--run", "x", "--log-level", "loud", command=status)


def test_models_that_nobody_asked_for_are_known_as_such(tmp_path: Path) -> None:
    assert load("--data", "/photos").assumed
    assert not load("--data", "/photos", "--preset", "mini").assumed
    assert not load("--data", "/photos", "--scorer.model", "ViT-L-14").assumed
    assert not load("--config", write(tmp_path, "preset: mini")).assumed


def test_suggestions_prefer_the_same_last_part() -> None:
    names = ["data.uri", "farm.samplers.max", "farm.scorers.max", "sampling.rounds"]
    assert did_you_mean("farm.sampler.max", names) == "; did you mean farm.samplers.max?"
    assert did_you_mean("sampler.rounds", names) == "; did you mean sampling.rounds?"
    assert did_you_mean("qwertz", names) == ""
