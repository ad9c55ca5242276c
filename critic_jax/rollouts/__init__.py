"""Records grow from records: stages, their prompts and parsers, controls."""
