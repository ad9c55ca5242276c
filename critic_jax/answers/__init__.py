"""Answers of problems: read, graded by what they mean, found in prose."""
