"""Problems, given solutions, and the way from records to batches."""
