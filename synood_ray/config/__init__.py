"""Every setting with its meaning, the presets, and what makes two runs the same."""
