"""Objectives applied to a model and a batch."""
