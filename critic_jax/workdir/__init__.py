"""The folder of a run: its config, metrics, records and checkpoints."""
