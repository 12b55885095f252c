"""The fine-tuning job: one worker here or several under Ray Train, checkpoints in our store, rank 0 saves the detector.

Checkpoints are objects of the run (``training/…``), created once and never changed, and not Ray's: what is there
survives the worker, the driver and the cluster alike, and the newest one is where any later start goes on.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.scores import FALLBACK, lacking
from synood_ray.storage import layout
from synood_ray.storage.intact import intact
from synood_ray.storage.run import Run
from synood_ray.storage.shards import manifest_digest
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store, StoreUnavailable
from synood_ray.training.saved import (
    SCORE,
    FineTuneResult,
    changed,
    done,
    existing,
    finished,
    identity,
    remove_detector,
    remove_stale,
    stored,
)

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.detection.detector import Detector, ImageEncoder
    from synood_ray.negatives.mining import NegativeLabels
    from synood_ray.training.features import RunFeatures
    from synood_ray.training.finetune import FineTuned

MAX_FAILURES = 3
"""Lost training workers that Ray Train replaces before it gives up."""

_USER_ERROR = "user_error"
_CHECKPOINTS = 10
"""About how many checkpoints a training writes, however many epochs it has."""


def run_finetune(store: Store, settings: Settings, connect: Callable[[], object] = lambda: None) -> FineTuneResult:
    """Fine-tune on a published run and save ``detector/``.

    One worker without GPUs trains in this process; several, and GPUs, are Ray Train's. connect: called before Ray is
    needed. A detector of the same settings is left as it is, one with another ``detector.score`` keeps its training and
    gets that score; one of samples that a retry has changed since is removed and made anew.
    Raises UserError if the run is not finished, has no accepted image, needs a CLIP and has none, or holds a detector
    of other settings; StoreUnavailable if the store stayed away.
    """
    found = existing(store)
    if found and changed(found, settings) == {SCORE}:
        _rescore(store, settings)
        return replace(done(store, settings), rescored=stored(found)[SCORE])
    if found:
        there = finished(store, settings, found)
        Checkpoints(
            store, settings, manifest_digest(store)
        ).clear()  # of a start that died after it had saved the detector
        return there
    _check(store, settings)
    remove_stale(store)
    if settings.training.workers == 1 and not settings.training.gpus:
        _set_threads(settings.farm.threads)
        train(store, settings)
    else:
        connect()
        _train_together(store, settings)
    return done(store, settings)


def _train_together(store: Store, settings: Settings) -> None:
    """`train` in the workers of Ray Train."""
    import ray.train
    from ray.train.torch import TorchTrainer

    training = settings.training
    with tempfile.TemporaryDirectory(prefix="synood-train-") as scratch:  # Ray Train's own notes; nothing of ours
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"uri": store.uri, "settings": settings.model_dump(mode="json")},
            scaling_config=ray.train.ScalingConfig(
                num_workers=training.workers,
                use_gpu=training.gpus > 0,
                resources_per_worker={"CPU": 1, "GPU": training.gpus} if training.gpus > 0 else {"CPU": 1},
            ),
            run_config=ray.train.RunConfig(
                storage_path=scratch, failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES)
            ),
        )
        try:
            metrics = trainer.fit().metrics or {}
        except ray.train.WorkerGroupError as error:  # lost too many workers
            for failure in error.worker_failures.values():
                away = getattr(failure, "cause", failure)
                if isinstance(away, StoreUnavailable):
                    raise away from error
            raise
    if _USER_ERROR in metrics:
        raise UserError(metrics[_USER_ERROR])


def train(store: Store, settings: Settings, workers: Any = None) -> None:
    """Encode, fine-tune, set the threshold, save: what one training worker does. Runs without Ray as well.

    workers: a `synood_ray.training.finetune.Workers`; the default trains alone.
    """
    from synood_ray.models.clip import ClipOnDemand
    from synood_ray.negatives.stored import negative_labels
    from synood_ray.training.features import run_features
    from synood_ray.training.finetune import Workers, fine_tune

    workers = workers or Workers()
    run = Run.open(store)
    clip = ClipOnDemand(settings.clip)
    negatives = negative_labels(settings, store, run.classes, clip)
    data = run_features(run, settings, clip, negatives, workers)
    checkpoints = Checkpoints(store, settings, data.samples)
    tuned = fine_tune(
        data.training.to(clip.device),
        settings.training,
        settings.seed,
        workers=workers,
        checkpoint=checkpoints.newest(),
        on_epoch=checkpoints.save if workers.rank == 0 else None,
    )
    if workers.rank != 0:
        return
    detector_of(tuned, data, clip, negatives, settings, run.classes).save(store, layout.DETECTOR)
    checkpoints.clear()


def detector_of(
    tuned: FineTuned,
    data: RunFeatures,
    clip: ImageEncoder,
    negatives: NegativeLabels,
    settings: Settings,
    class_names: list[str],
) -> Detector:
    """The detector that a fine-tuning on these features gives, with its score and its threshold."""
    from synood_ray.detection.description import DetectorDescription
    from synood_ray.detection.detector import Detector

    scorer, images = settings.clip, data.training
    score, note = _score(settings, images.id_labels, class_names)
    description = DetectorDescription(
        recipe=settings.training.recipe,
        class_names=class_names,
        negative_words=negatives.words,
        negative_kinds=list(negatives.kinds),
        groups=settings.labels.groups,
        threshold=0.0,
        score=score,
        temperature=scorer.temperature,
        offset=round(tuned.offset, 6),
        notes=[note] if note else [],
        model=scorer.model,
        pretrained=scorer.pretrained,
        revision=scorer.revision,
        templates=scorer.templates,
        training={
            "settings": identity(settings),
            "samples": data.samples,
            "losses": [round(loss, 6) for loss in tuned.history],
        },
        data=data.counts(),
    )
    detector = Detector(clip, tuned.projector, images.id_text, tuned.negative_text, description)
    own = images.id_features, images.id_labels, data.calibration_features
    return detector.with_score_of(*own, pool=data.pool)


def _score(settings: Settings, labels: Tensor, class_names: list[str]) -> tuple[str, str]:
    """The detector's score, and a note where it is not the one that was asked for."""
    wanted = settings.detector.score
    why = lacking(wanted, labels, class_names)
    return (FALLBACK, f"score {FALLBACK}: {why}") if why else (wanted, "")


class Checkpoints:
    """Fine-tuning's checkpoints in the run's store, under a name that depends on its settings and the samples.

    samples: digest of the manifest whose samples these are.
    """

    def __init__(self, store: Store, settings: Settings, samples: str | None) -> None:
        made_of = {"settings": identity(settings), "samples": samples}
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
        self.store, self.prefix = store, f"training/{digest}-"
        total = settings.training.epochs + settings.training.label_epochs
        self.every = max(1, total // _CHECKPOINTS)

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Store the state after this many epochs, if it is due."""
        from safetensors.torch import save

        if epoch % self.every == 0:
            self.store.put_new(f"{self.prefix}{epoch:06d}.safetensors", save(state))

    def newest(self) -> dict[str, Any] | None:
        """The state after the most epochs, None at the start."""
        from safetensors.torch import load

        keys = [entry.key for entry in self.store.list(self.prefix)]
        if not keys:
            return None
        with intact(self.store, keys[-1], "remove it: the training goes on from an earlier one"):
            return load(self.store.get(keys[-1]))

    def clear(self) -> None:
        """Remove them: the detector is saved."""
        for entry in list(self.store.list(self.prefix)):
            self.store.delete(entry.key)


def _set_threads(threads: int) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def _worker(config: dict[str, Any]) -> None:
    """One Ray Train worker."""
    import ray.train

    from synood_ray.training.distributed import TorchWorkers

    settings = Settings.model_validate(config["settings"])
    _set_threads(settings.farm.threads or 1)
    context = ray.train.get_context()
    workers = TorchWorkers(context.get_world_rank(), context.get_world_size())
    try:
        train(open_store(config["uri"]), settings, workers)
        ray.train.report({})
    except UserError as error:  # the user's to fix: trying again would not help
        ray.train.report({_USER_ERROR: str(error)})


def _rescore(store: Store, settings: Settings) -> None:
    """Give the detector another score: what it learns and the threshold are made of the features that the run keeps.

    It is the detector that a training with these settings would give; where this is cut off, that makes it.
    """
    from synood_ray.detection.detector import Detector
    from synood_ray.models.clip import ClipModel
    from synood_ray.negatives.stored import negative_labels
    from synood_ray.training.features import run_features
    from synood_ray.training.finetune import FineTuned, Workers

    run, clip = Run.open(store), ClipModel(settings.clip)
    negatives = negative_labels(settings, store, run.classes, clip)
    data = run_features(run, settings, clip, negatives, Workers())
    old = Detector.from_store(store, layout.DETECTOR, clip=clip)
    told = old.description
    tuned = FineTuned(old.projector, old.negative_text, told.training["losses"], told.offset)
    made = detector_of(tuned, data, clip, negatives, settings, run.classes)
    remove_detector(store)
    made.save(store, layout.DETECTOR)


def _check(store: Store, settings: Settings) -> None:
    """What can be known to be wrong before a model loads."""
    from synood_ray.negatives.mining import load_candidates

    run = Run.open(store)
    run.check_shards()
    if run.published()["accepted"] == 0:
        raise UserError(f"{store.uri}: no sample was accepted, so there is nothing to learn from; see sampling.band")
    settings.clip  # noqa: B018 - raises if there is none
    if not run.has_negatives:
        load_candidates(settings.labels)
