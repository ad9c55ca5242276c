"""A server of a run's roles, for other programs."""
