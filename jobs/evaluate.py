"""What `ray job submit` runs for `synood evaluate`."""

import sys

from synood_ray.cli.main import main

if __name__ == "__main__":  # the workers of vLLM import this file again
    sys.exit(main(["evaluate", *sys.argv[1:]]))
