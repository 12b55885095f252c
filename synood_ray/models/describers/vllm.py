"""The describer with a vLLM engine of its own: in this process for one GPU or a CPU, over several GPUs with TP > 1."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from synood_ray import used
from synood_ray.config.models import DescriberSettings
from synood_ray.errors import UserError
from synood_ray.locations import is_folder, is_hub_id, resolve
from synood_ray.models.describers.answers import Answer, parse_yes_no
from synood_ray.models.describers.base import (
    Context,
    EngineDeadError,
    clean_answers,
    presentable,
    questions,
)
from synood_ray.models.describers.contexts import TokenCounter

CPU_CACHE_BYTES = 1 << 30  # attention cache on a CPU; vLLM's own default there is a share of all memory


class VllmDescriber:
    """Loads the model of `settings.model` when made (about 15 s for the bundled one, minutes for 7B).

    Greedy decoding: the same image and question give the same answer on one machine type. On a CPU everything runs
    eagerly in float32. Raises UserError if the model is a local folder that is not there or not a model.
    """

    def __init__(self, settings: DescriberSettings, count_tokens: TokenCounter) -> None:
        self.settings, self._count_tokens = settings, count_tokens
        self._dead = False
        self._llm = _start_engine(settings)

    def describe(
        self, images: Sequence[Image.Image], subjects: Sequence[str], keys: Sequence[str] | None = None
    ) -> list[Context]:
        """See `Describer.describe`."""
        answers = self.answer(images, questions(self.settings.question, subjects))
        return clean_answers(self.settings, answers, subjects, self._count_tokens)

    def shows(self, images: Sequence[Image.Image], subjects: Sequence[str]) -> list[bool | None]:
        """See `Describer.shows`; the engine may only answer yes or no."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        only = StructuredOutputsParams(choice=["yes", "no"])
        sampling = SamplingParams(temperature=0.0, max_tokens=8, structured_outputs=only)
        answers = self._ask(images, questions(self.settings.check_question, subjects), sampling)
        return [parse_yes_no(answer) for answer in answers]

    def answer(self, images: Sequence[Image.Image], asked: Sequence[str]) -> list[Answer]:
        """See `Describer.answer`."""
        from vllm import SamplingParams

        return self._ask(images, asked, SamplingParams(temperature=0.0, max_tokens=self.settings.max_new_tokens))

    def _ask(self, images: Sequence[Image.Image], asked: Sequence[str], sampling: Any) -> list[Answer]:
        """The answers; a question that the engine refuses, because it is too long, gets none."""
        if self._dead:
            raise EngineDeadError("the vLLM engine died earlier; start a new process")
        chats = [_chat(image, question) for image, question in zip(images, asked, strict=True)]
        if not chats:
            return []
        try:
            outputs = self._llm.chat(chats, sampling, use_tqdm=False)
        except Exception as error:
            if not _is_refusal(error):  # out of memory, a lost worker process: the engine's state is unknown now
                raise self._died(error) from error
            self._finish_others()
            if len(chats) == 1:
                return [Answer("", f"vLLM refuses the question: {' '.join(str(error).split())}")]
            return [self._ask([image], [question], sampling)[0] for image, question in zip(images, asked, strict=True)]
        used.add("synood_describer_tokens", "read", sum(len(output.prompt_token_ids or ()) for output in outputs))
        used.add("synood_describer_tokens", "written", sum(len(output.outputs[0].token_ids) for output in outputs))
        return [Answer(output.outputs[0].text) for output in outputs]

    def _finish_others(self) -> None:
        """Work off what a refused batch has left in the engine: the answers would turn up in the next batch."""
        engine = self._llm.llm_engine
        try:
            while engine.has_unfinished_requests():
                engine.step()
        except Exception as error:
            raise self._died(error) from error

    def _died(self, error: Exception) -> EngineDeadError:
        self._dead = True
        return EngineDeadError(f"the vLLM engine died: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Stop the engine and give its memory back."""
        if self._llm is None:
            return
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        self._llm, self._dead = None, True
        cleanup_dist_env_and_memory()


def _is_refusal(error: Exception) -> bool:
    """Whether vLLM turned an input down, one that is too long for instance, before its engine worked on it."""
    from vllm.exceptions import VLLMClientError

    return isinstance(error, ValueError | VLLMClientError)


def _chat(image: Image.Image, question: str) -> list[dict[str, Any]]:
    content = [{"type": "image_pil", "image_pil": presentable(image)}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def _start_engine(settings: DescriberSettings) -> Any:
    model = _model_path(settings.model)
    import torch  # only once there is a model: a wrong path is told in a second

    on_cpu = not torch.cuda.is_available()
    _set_environment(local=is_folder(model), on_cpu=on_cpu, parallel=settings.tensor_parallel_size)
    dtype = settings.dtype if settings.dtype != "auto" else ("float32" if on_cpu else "bfloat16")
    options: dict[str, Any] = {
        "model": model,
        "revision": settings.revision,
        "tokenizer_revision": settings.revision,
        "dtype": dtype,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.batch_size,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        "seed": 0,
        "disable_log_stats": True,
    }
    if on_cpu:
        options |= {"enforce_eager": True, "kv_cache_memory_bytes": CPU_CACHE_BYTES}
        if settings.tensor_parallel_size == 1:
            options["distributed_executor_backend"] = "uni"
    else:
        options["gpu_memory_utilization"] = settings.gpu_memory_utilization
    set_num_threads = torch.set_num_threads
    from vllm import LLM

    try:
        return LLM(**options)
    finally:
        torch.set_num_threads = set_num_threads  # vLLM's CPU worker replaces it by one that only warns


def _model_path(model: str) -> str:
    """The folder or hub id for vLLM; UserError for a folder that is not there or holds no model."""
    path = Path(resolve(model)).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"describer.model: {model} has no config.json; give the folder of a transformers model")
        return str(path)
    if not is_hub_id(model):
        raise UserError(f"describer.model: {model} is neither a folder nor a hub id (owner/name)")
    return model


def _set_environment(*, local: bool, on_cpu: bool, parallel: int) -> None:
    """What vLLM reads from the environment when it is imported; what the user has set stays."""
    wanted = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if local:
        wanted["HF_HUB_OFFLINE"] = "1"
    if parallel == 1:
        wanted["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the engine lives here: no second process to start or lose
    if on_cpu:
        wanted["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # other workers share these cores
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    # vLLM on a CPU warns at each call of torch.set_num_threads that it ignores it; that is meant for its developers
    logging.getLogger("vllm.v1.worker.cpu_worker").setLevel(logging.ERROR)
