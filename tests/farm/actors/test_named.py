"""What actors have in common."""

from __future__ import annotations

import threading

from synood_ray.farm.actors.named import made_once


class Loads:
    def __init__(self) -> None:
        self.loaded = 0
        self.both = threading.Barrier(2, timeout=30)

    @made_once
    def model(self) -> int:
        self.loaded += 1
        return self.loaded


def test_two_threads_load_a_model_once() -> None:
    found: list[int] = []
    actor = Loads()

    def use() -> None:
        actor.both.wait()
        found.append(actor.model)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1, 1] and actor.model == actor.loaded == 1
