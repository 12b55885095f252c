from synood_ray.report.markdown import as_markdown, sections
from tests.report.test_page import BETTER, EVALUATION, VALUES

AHEAD = {metric: [0.1, 0.04, 0.16] for metric in VALUES}
MEAN = {
    "sets": ["near/y", "near/z"],
    "values": {"neglabel": VALUES, "synood": BETTER},
    "intervals": {},
    "differences": {"neglabel": AHEAD},
}


def test_a_table_a_set_with_every_metric_and_interval() -> None:
    text = as_markdown(EVALUATION | {"differences": {"near/y": {"neglabel": AHEAD}}, "warnings": ["few"]}, "demo")
    lines = text.splitlines()
    assert lines[0] == "# Evaluation of demo" and "**Warning:** few" in lines
    near = lines[lines.index("## near/y (10 images)") :]
    heads = [cell.strip() for cell in near[2].strip("|").split("|")]
    ours, other = ([cell.strip() for cell in near[i].strip("|").split("|")] for i in (5, 4))
    assert len(heads) == len(ours) == len(other) == len(near[3].strip("|").split("|"))
    figures = dict(zip(heads, ours, strict=True))
    assert figures["method"] == "**synood**" and figures["AUROC"] == "90.0 [85.0, 95.0]"
    assert figures["ID accuracy"] == "95.0" and figures["synood − it, AUROC"] == ""
    assert dict(zip(heads, other, strict=True))["synood − it, AUROC"] == "+10.0 [4.0, 16.0]"
    assert "- official: no fine-tuned detector" in lines


def test_means_come_before_their_sets_where_there_are_several() -> None:
    sets = EVALUATION["sets"] | {"near/z": EVALUATION["sets"]["near/y"]}
    images = EVALUATION["images"] | {"near/z": {"used": 5, "skipped": 0}}
    found = sections(EVALUATION | {"sets": sets, "images": images, "means": {"near": MEAN, "far": MEAN}})
    assert [one.title for one in found] == ["near, mean of 2 sets", "near/y", "near/z", "far/x"]
    assert found[0].ahead("neglabel", "auroc") == "+10.0 [4.0, 16.0]"


def test_an_evaluation_of_an_earlier_version_has_no_differences() -> None:
    older = {name: value for name, value in EVALUATION.items() if name != "methods"}
    assert "−" not in as_markdown(older, "old")


def test_seen_names_and_shifted_images_have_their_tables() -> None:
    blind = {"near/y": {"classes": 4, "words": ["drum", "kite"], "prompts": [], "answers": []}}
    shifted = {"shifted/r": {name: {"accuracy": 0.5, "kept": 0.25} for name in ("neglabel", "synood")}}
    images = EVALUATION["images"] | {"shifted/r": {"used": 7, "skipped": 0}}
    text = as_markdown(EVALUATION | {"blind": blind, "shifted": shifted, "images": images}, "demo")
    assert "| near/y | 4 | 2: drum, kite | 0 | 0 |" in text
    assert "## shifted/r (7 ID images of another kind)" in text and "| synood | 50.0 | 25.0 |" in text
