"""Protocols: examples -> records, records -> metrics."""
