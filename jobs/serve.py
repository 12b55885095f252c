"""What `ray job submit` runs for `synood serve`."""

import sys

from synood_ray.cli.main import start

if __name__ == "__main__":  # the workers of vLLM import this file again
    start(["serve", *sys.argv[1:]])
