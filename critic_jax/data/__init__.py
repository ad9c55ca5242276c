"""Problems, demonstrations, and the way from records to batches."""
