"""Training algorithms: one file per way of moving data."""
