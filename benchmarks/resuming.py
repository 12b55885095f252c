"""What it takes to go on: a run of a million units of which nearly all are done, and a finished run asked again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.stub_workers import CLASSES, ListedStore, stub_row, stub_settings
from benchmarks.targets import Target
from synood_ray.config.settings import Settings
from synood_ray.storage import layout

UNIT_SIZE = 32
JOB = Path(__file__).parents[1] / "jobs" / "synthesize.py"
SAMPLES, SAMPLES_A_UNIT = 64, 16  # of the finished run
ASK = """
import json, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    loaded = [name for name in ("ray", "torch", "vllm", "diffusers") if name in sys.modules]
    from benchmarks.resuming import peak_mb
    print(json.dumps({"code": end.code, "loaded": loaded, "peak_mb": peak_mb()}))
"""


def benchmark(units: int = 1_000_000, committed: int = 999_000, repetitions: int = 3) -> dict[str, Any]:
    """Resume in a process of its own, and ask a finished run again; the best of the repetitions each.

    As many source images as units, so that the ID manifest is as large as it may get.
    """
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.parquet"
        manifest.write_bytes(_manifest(units))
        command = [sys.executable, "-m", __name__, str(manifest), str(units), str(committed)]
        resumes = [timed(command) for _ in range(repetitions)]
        run = Path(folder) / "run"
        arguments = finished_run(str(run))
        again = [timed([sys.executable, "-c", ASK, str(JOB), *arguments]) for _ in range(repetitions)]
    return {
        "units": units,
        "committed": committed,
        "resume": min(resumes, key=lambda found: found["seconds"]),
        "finished": min(again, key=lambda found: found["seconds"]),
    }


def targets(figures: dict[str, Any]) -> list[Target]:
    what = f"plan and resume of {figures['units']:,} units, {figures['committed']:,} committed"
    resume, finished = figures["resume"], figures["finished"]
    return [
        Target(f"{what}: seconds of the whole process", resume["seconds"], 10, "most"),
        Target(f"{what}: peak memory, MB", resume["peak_mb"], 500, "most"),
        Target("a finished run, asked again: seconds of the whole process", finished["seconds"], 3, "most"),
        Target("a finished run, asked again: model libraries and Ray loaded", len(finished["loaded"]), 0, "most"),
    ]


def timed(command: list[str]) -> dict[str, Any]:
    """The JSON in the last line of a command's output, and the wall seconds that it took."""
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    begin = time.monotonic()
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    seconds = time.monotonic() - begin
    return {**json.loads(found.stdout.splitlines()[-1]), "seconds": seconds}


def _manifest(count: int) -> bytes:
    """An ID manifest of that many images, made column by column."""
    import numpy as np
    import pyarrow as pa

    from synood_ray.storage.parts import to_parquet
    from synood_ray.storage.sources import ROW_GROUP

    labels = np.arange(count) % len(CLASSES)
    keys = pa.array([f"n{label:08d}/n{label:08d}_{i}.JPEG" for i, label in enumerate(labels)])
    columns = {
        "key": keys,
        "label": pa.array(labels),
        "name": pa.array(CLASSES).take(pa.array(labels)),
        "uri": keys,
        "n_bytes": pa.array(np.arange(count)),
        "width": pa.array(np.full(count, 500, np.int32)),
        "height": pa.array(np.full(count, 375, np.int32)),
        "box": pa.nulls(count, pa.list_(pa.int32())),
    }
    return to_parquet(pa.table(columns), ROW_GROUP)


def resume(manifest: bytes, units: int, committed: int) -> dict[str, Any]:
    """What a driver does before its first unit: read the ID manifest, plan, list, fill the queues; then all tasks."""
    from synood_ray.farm.driver import Driver
    from synood_ray.farm.plan import Plan
    from synood_ray.storage.progress import scan
    from synood_ray.storage.sources import decode_sources

    begin = time.monotonic()
    sources = decode_sources(manifest)
    plan = Plan(sources, per_image=-(-units * UNIT_SIZE // len(sources)), unit_size=UNIT_SIZE, limit=units * UNIT_SIZE)
    store = ListedStore("listed", units, committed)
    assert len(scan(store, units).committed) == committed  # as `synthesize` does, to see whether anything is left
    driver = Driver(stub_settings(1), store, plan, CLASSES)
    ready = time.monotonic()
    tasks = 0
    while lease := driver.sampling.queue.lease("sampler"):
        tasks += len(plan.unit(lease.unit))
    assert tasks == (units - committed) * UNIT_SIZE, "exactly the units that are not committed are left"
    cpu = time.process_time()  # of the whole process; a machine that others use too shows in the wall time alone
    return {"seconds_in_driver": ready - begin, "cpu_seconds": cpu, "tasks_left": tasks, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Peak resident memory of this process, 10^6 bytes. Not from getrusage, which counts the parent's before exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("no VmHWM in /proc/self/status")


def finished_run(output: str) -> list[str]:
    """Make a small finished run of the mini preset, its samples made up; returns the command line that made it."""
    from synood_ray.cli.arguments import parse
    from synood_ray.cli.synthesize import COMMAND
    from synood_ray.pipeline import synthesize

    arguments = ["--preset", "mini", "--output", output, "--limit", str(SAMPLES)]
    arguments += ["--farm.unit_size", str(SAMPLES_A_UNIT)]
    settings = parse(COMMAND, arguments).settings
    make_parts(settings)
    synthesize(settings, say=lambda line: None)  # all is sampled: it only publishes
    return arguments


def make_parts(settings: Settings) -> None:
    """Start a run and put a made-up part for each of its units, without a worker."""
    from synood_ray.data.selection import select
    from synood_ray.data.source import open_source
    from synood_ray.farm.plan import Plan
    from synood_ray.storage.parts import encode_samples
    from synood_ray.storage.record import check_or_create_run
    from synood_ray.storage.sources import encode_sources, sources_digest
    from synood_ray.storage.stores import open_store

    store = open_store(settings.output)
    found = select(open_source(settings.data.uri, settings.data), settings.data)
    plan = Plan(found.sources, unit_size=settings.farm.unit_size, limit=settings.limit, seed=settings.seed)
    names = [info.name for info in found.classes]
    digest = sources_digest(found.sources)
    check_or_create_run(
        store, settings, id_manifest_sha256=digest, planned=plan.samples, units=len(plan), classes=names
    )
    store.put_new(layout.CALIBRATION_MANIFEST, encode_sources(found.calibration))
    store.put_new(layout.ID_MANIFEST, encode_sources(found.sources))
    for unit in range(len(plan)):
        store.put_new(layout.part_key(unit), encode_samples([stub_row(task) for task in plan.unit(unit)], names))


if __name__ == "__main__":
    file, planned, done = sys.argv[1:]
    print(json.dumps(resume(Path(file).read_bytes(), int(planned), int(done))))
