"""What `ray job submit` runs for `synood push`."""

import sys

from synood_ray.cli.main import start

if __name__ == "__main__":  # the workers of vLLM import this file again
    start(["push", *sys.argv[1:]])
