"""Fine-tuning of the projector and the negative-label features, alone or under Ray Train."""
