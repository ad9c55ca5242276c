"""Programs: run behind walls, and graded by unit tests."""
