"""Text <-> tokens: no device."""
