"""Prompts -> generations: jitted sampling, its queue, a model bound to it."""
