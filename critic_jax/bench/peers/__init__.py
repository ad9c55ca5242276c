"""Workers of other systems; each runs in its own environment."""
