"""synood report: the page about a run, or a contact sheet of it."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path

from synood_ray.cli.command import RUN, Arguments, Command
from synood_ray.errors import UserError

_WHERE = ("page", "folder")


def run(arguments: Arguments) -> int:
    options = arguments.options
    images = options.get("images", _WHERE[0])
    if images not in _WHERE:
        raise UserError(f"--images {images!r}: one of {', '.join(_WHERE)}")
    sheet = Path(options["sheet"]) if "sheet" in options else None
    if sheet and (sheet.suffix.lower() not in (".png", ".jpg") or not sheet.absolute().parent.is_dir()):
        raise UserError(f"--sheet {sheet}: name a .png or .jpg file in a folder that exists")
    samples = options.get("samples", "18")
    if not (samples.isascii() and samples.isdigit() and 1 <= int(samples) <= 480):
        raise UserError(f"--samples {samples!r}: give 1 to 480")

    from synood_ray.report.page import put_page, render
    from synood_ray.report.sheet import sheet_file
    from synood_ray.storage import layout
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store

    made = Run.open(open_store(options["run"], write=False))
    settings = arguments.over(made.config)
    if sheet:
        sheet.write_bytes(sheet_file(made, settings, sheet.suffix.lower(), int(samples)))
        print(f"sheet: {sheet}")
        return 0
    uri = options.get("to", f"{options['run'].rstrip('/')}/{layout.REPORT}".rstrip("/"))
    if "open" in options and uri.startswith("s3://"):
        uri = tempfile.mkdtemp(prefix="synood-report-")  # a browser reads no store
    target = open_store(uri)
    put_page(target, layout.PAGE, render(made, settings, made.evaluation(), target if images == "folder" else None))
    print(f"report: {uri}/{layout.PAGE}")
    if "open" in options and not webbrowser.open((Path(uri.removeprefix("file://")) / layout.PAGE).absolute().as_uri()):
        print("no browser was found; open that file in one")
    return 0


COMMAND = Command(
    "report",
    "Make the page about a run: figures, and a gallery of all samples; also while it is going.",
    run,
    options={
        **RUN,
        "--images WHERE": "page: thumbnails inside the page, as many as keep it under 5 MB (the default); folder: "
        "larger ones of all samples, in images/ beside it",
        "--to URI": "where the page goes, a folder or s3:// location (default: report/ in the run)",
        "--open": "show it in the browser; of a run on s3://, a copy on this machine",
        "--sheet FILE.png": "instead of the page, a contact sheet (or FILE.jpg): sources, and what was made of them",
        "--samples N": "accepted samples on the sheet, nobody's choice (default: 18)",
    },
    needs=("run",),
    examples=("--run runs/demo --open", "--run s3://runs/imagenet --images folder --to pages/imagenet"),
)
