"""How the miniature world is made: drawings, scenes, trainings, and the measurements of what came out."""
