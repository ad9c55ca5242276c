"""Rule rewards: a record and the responses to it -> a float."""
