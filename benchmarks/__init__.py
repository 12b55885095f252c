"""Measurements behind the README's figures; `synood benchmark` runs them."""
