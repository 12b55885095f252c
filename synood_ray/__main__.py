"""``python -m synood_ray`` is the command `synood`."""

from synood_ray.cli.main import start

if __name__ == "__main__":
    start()
