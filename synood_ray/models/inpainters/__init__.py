"""Diffusion inpainting pipelines, taken apart so that noise can be refined."""
