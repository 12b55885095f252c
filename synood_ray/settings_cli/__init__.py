"""How settings are made from a preset, a file and the command line; the public side is `synood_ray.commandline`."""
