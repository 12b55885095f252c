"""Feeds one `Refiner` from several units at once, so that a slot freed by one unit is filled by the next."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future

from synood_ray.sampling.refine import Refiner
from synood_ray.sampling.sample import Refined, RefineTask

Result = Refined | Exception


class RefineEngine:
    """One thread that refines whatever has been submitted.

    An exception spoils a batch, not its samples: each of them is then run alone, and only one that fails alone
    comes back as an exception.
    """

    def __init__(self, refiner: Refiner) -> None:
        self.refiner = refiner
        self._tasks: queue.SimpleQueue[RefineTask | None] = queue.SimpleQueue()
        self._waiting: dict[str, tuple[RefineTask, Future[Result]]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="refine", daemon=True)
        self._thread.start()

    def submit(self, tasks: list[RefineTask]) -> list[Result]:
        """Refine tasks (keys unique among those in work) and wait for all of them; results in their order."""
        futures: list[Future[Result]] = []
        for task in tasks:
            if task.key in self._waiting:
                raise ValueError(f"sample {task.key} is in work already")
            future: Future[Result] = Future()
            self._waiting[task.key] = (task, future)
            futures.append(future)
            self._tasks.put(task)
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the thread once nothing is left to do."""
        self._closed = True
        self._tasks.put(None)
        self._thread.join()

    def _stream(self) -> Iterator[RefineTask | None]:
        in_hand = 0  # what the refiner holds: with none, wait for a task instead of spinning
        while True:
            in_hand = len(self._started)
            try:
                task = self._tasks.get(block=in_hand == 0)
            except queue.Empty:
                yield None
                continue
            if task is None:
                if self._closed:
                    return
                continue
            self._started.add(task.key)
            yield task

    def _work(self) -> None:
        while not self._closed:
            self._started: set[str] = set()
            try:
                for refined in self.refiner.run(self._stream()):
                    self._deliver(refined.key, refined)
            except Exception:  # which sample it was shows when each runs alone
                for key in sorted(self._started):
                    self._deliver(key, self._alone(self._waiting[key][0]))

    def _alone(self, task: RefineTask) -> Result:
        try:
            return next(self.refiner.run([task]))
        except Exception as error:
            return error

    def _deliver(self, key: str, result: Result) -> None:
        self._started.discard(key)
        _, future = self._waiting.pop(key)
        future.set_result(result)
