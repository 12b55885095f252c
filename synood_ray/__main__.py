"""``python -m synood_ray`` is the command `synood`."""

import sys

from synood_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
