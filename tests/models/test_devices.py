import os

import pytest
import torch

from synood_ray.errors import UserError
from synood_ray.models.devices import choose_device, choose_dtype, prepare_cpu

CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def test_a_gpu_that_is_not_there_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="use 'auto' or 'cpu'"):
        choose_device("cuda")


def test_precision_of_each_device() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert choose_dtype("auto", cpu) == torch.float32
    assert choose_dtype("auto", gpu) == torch.bfloat16
    assert choose_dtype("auto", gpu, on_gpu="float32") == torch.float32
    assert choose_dtype("float16", cpu) == torch.float16


def test_onednn_keeps_more_operations_unless_the_user_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = prepare_cpu.__wrapped__  # once a process otherwise
    monkeypatch.delenv(CACHE, raising=False)
    prepare()
    assert int(os.environ[CACHE]) > 1024  # its own default
    monkeypatch.setenv(CACHE, "7")
    prepare()
    assert os.environ[CACHE] == "7"
