"""Learning: optimizers, schedules, losses, the training state and the one loop."""
