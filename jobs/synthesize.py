"""Make near-boundary out-of-distribution images of an image set: select, describe, sample, publish."""

from __future__ import annotations

import sys

from synood_ray.cli.commandline import load_arguments, main_guard, short_form

FLAGS = {
    "retry-failed": "run the quarantined units and the failed samples of this run again, and nothing else; their "
    "earlier errors stay in errors/. A published run is published anew"
}


def main(argv: list[str]) -> int:
    loaded = load_arguments(argv, program="jobs/synthesize.py", description=__doc__ or "", flags=FLAGS)
    settings = loaded.settings
    print(short_form(settings, loaded.origins), flush=True)

    from synood_ray.pipeline import synthesize

    result = synthesize(settings, say=lambda line: print(line, flush=True), retry_failed="retry-failed" in loaded.extra)
    status = result.status
    print(
        f"{status.accepted + status.rejected + status.failed} samples: {status.accepted} accepted, "
        f"{status.rejected} rejected, {status.failed} failed; {result.computed} units computed now"
    )
    return 3 if status.quarantined > settings.farm.max_quarantined else 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
