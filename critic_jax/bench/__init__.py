"""Measurements of speed on this machine, beside other systems."""
