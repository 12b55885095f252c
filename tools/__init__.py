"""How the bundled data and models are made; run from a checkout, not part of the package."""
