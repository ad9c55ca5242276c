"""Prompt styles: a module each, its prompts beside its parsers, as `STAGES`."""
