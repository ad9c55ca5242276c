"""Protocols of measurement: examples -> records, records -> metrics."""
