"""The memory and the seconds of a run, planned before it is run."""
