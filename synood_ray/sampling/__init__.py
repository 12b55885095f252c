"""Boundary calibration and the refinement loop; plain torch, without Ray."""
