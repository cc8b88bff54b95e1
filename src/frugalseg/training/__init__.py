"""Training: plan, loader, optimiser, checkpoints, logs, and the only loop. Only this room imports Lightning."""
