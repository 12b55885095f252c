"""What fits where, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from synood_ray.cli.layers import load_preset, resolve
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.farm.placement import Node, needs_of, training_needs
from synood_ray.farm.placement import check_any as check

ONE_GPU = Node({"CPU": 8.0, "GPU": 1.0})
LAPTOP = Node({"CPU": 2.0})


def settings(farm: dict[str, Any], placement: str = "local") -> Settings:
    return Settings.model_validate({"farm": farm, "scorer": {"placement": placement}})


def refused(needs: list[Any], *nodes: Node) -> str:
    with pytest.raises(UserError) as caught:
        check(needs, nodes)
    return str(caught.value)


WHOLE = settings({"describers": {"gpus": 1}, "samplers": {"gpus": 1}})


def test_two_whole_gpu_roles_on_one_gpu_are_refused_with_the_settings_to_change() -> None:
    told = refused(needs_of(WHOLE), ONE_GPU)
    assert told.startswith("farm.describers, farm.samplers: 1 describer of 1 GPU, 1 CPU and 1 sampler of 1 GPU, 1 CPU")
    assert "--farm.samplers.gpus 0.5" in told and "1 node, 8 CPU and 1 GPU in all" in told
    check(needs_of(WHOLE), [ONE_GPU, ONE_GPU])
    check(needs_of(WHOLE, describes=False), [ONE_GPU])  # all is described, and nobody checks


def test_the_preset_for_one_gpu_fits_on_one_gpu() -> None:
    check(needs_of(resolve([load_preset("workstation")])[0]), [ONE_GPU])
    assert refused(needs_of(resolve([load_preset("imagenet")])[0]), LAPTOP) == (
        "farm.describers: a describer needs 1 GPU, 1 CPU, and no node has that (1 node, 2 CPU and 0 GPU in all)"
    )


def test_pools_fit_if_some_way_to_place_them_is_there() -> None:
    """The sampler takes the node that the describer could have had, too."""
    farm = {"describers": {"cpus": 2}, "samplers": {"cpus": 4}}
    check(needs_of(settings(farm)), [Node({"CPU": 4.0}), LAPTOP])
    assert "--farm.describers.cpus 0.5 --farm.samplers.cpus 0.5" in refused(
        needs_of(settings(farm)), Node({"CPU": 4.0})
    )
    scorers = settings({"scorers": {"max": 3}}, "actor")
    check(needs_of(scorers), [LAPTOP, LAPTOP, LAPTOP])
    assert "3 scorers of 1 CPU" in refused(needs_of(scorers), LAPTOP, LAPTOP)


@pytest.mark.parametrize(
    ("asked", "has", "fits"),
    [
        ("spot", "spot", True),
        ("spot", None, False),
        ("!spot", "on-demand", True),
        ("in(spot, other)", "other", True),
        ("!in(spot,other)", "other", False),
    ],
)
def test_labels_are_read_as_ray_reads_them(asked: str, has: str | None, fits: bool) -> None:
    needs = needs_of(settings({"samplers": {"labels": {"market": asked}}}), describes=False)
    node = Node({"CPU": 1.0}, {"market": has} if has else {})
    if fits:
        check(needs, [node])
    else:
        assert f"1 CPU, label market={asked}" in refused(needs, node)


def test_training_that_can_never_begin_is_refused() -> None:
    many = Settings.model_validate({"training": {"workers": 64}})
    check(training_needs(many), [Node({"CPU": 40.0}), Node({"CPU": 24.0})])
    assert refused(training_needs(many), *[LAPTOP] * 20) == (
        "training.workers: 64 training workers of 1 CPU work at the same time, and there is not room for all "
        "(20 nodes, 40 CPU and 0 GPU in all); take fewer training.workers, or add machines"
    )
    assert refused(training_needs(Settings.model_validate({"training": {"gpus": 1}})), LAPTOP).startswith(
        "training.gpus: a training worker needs 1 GPU, 1 CPU, and no node has that"
    )
