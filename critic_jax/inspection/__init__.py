"""Reads a run from its folder; needs no device."""
