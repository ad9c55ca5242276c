"""Reads and compares runs from their folders, without a device."""
