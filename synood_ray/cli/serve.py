"""synood serve: a run's detector behind a web address."""

from __future__ import annotations

from pathlib import Path

from synood_ray.cli.command import Arguments, Command
from synood_ray.locations import without_credentials


def run(arguments: Arguments) -> int:
    from synood_ray.farm.cluster import connect, is_local
    from synood_ray.serving.running import check_port, deploy, find_detector, keep_priority, start, stay, take_down

    def say(line: str) -> None:
        print(line, flush=True)

    named = arguments.options["run"]
    folder = Path(named).expanduser()
    uri = str(folder.absolute()) if folder.exists() else named  # replicas are elsewhere
    settings = arguments.over(find_detector(uri)).serving
    if is_local():
        check_port(settings)
        keep_priority()
    say(connect())
    start(settings, say)
    try:
        deploy(uri, settings, arguments.settings.log, say)
        where = "" if is_local() else ", on every machine of the cluster with a replica"
        address = f"http://{settings.host}:{settings.port}"
        say(f"{without_credentials(named)}: served at {address}{where}")
        say(f"try: curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg {address}/score")
        stay(say)
    finally:
        take_down()


COMMAND = Command(
    "serve",
    "Serve a run's detector over HTTP: POST an image to /score. Until Ctrl-C.",
    run,
    options={
        "--run URI": "the run, or a detector's folder, local or s3://; or hf-hub:USER/NAME, a detector on the Hugging "
        "Face Hub"
    },
    needs=("run",),
    settings=("serving",),
    often=(
        "serving.host",
        "serving.port",
        "serving.recall",
        "serving.rate",
        "serving.urls",
        "serving.replicas.max",
        "serving.replicas.cpus",
        "serving.replicas.gpus",
    ),
    examples=(
        "--run runs/demo",
        "--run s3://runs/imagenet --serving.host 0.0.0.0 --serving.replicas.gpus 1 --serving.replicas.cpus 4",
        "--run hf-hub:me/judge --serving.recall 0.99",
    ),
)
