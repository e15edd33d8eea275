"""The training loop and its services: optimisers, checkpoints, records, monitors, inference."""
