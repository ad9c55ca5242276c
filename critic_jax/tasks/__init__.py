"""Generated worlds, every line of which can be checked, and their lessons."""
