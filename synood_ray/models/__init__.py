"""The three model roles, plain torch without Ray: describer (vLLM), inpainter (diffusers), scorer (open_clip)."""
