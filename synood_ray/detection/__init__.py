"""OOD scores, metrics, and the detector that a user loads and calls."""
