"""Processes that grade, with deadlines."""
