"""The Ray actors: describer, sampler, scorer."""
