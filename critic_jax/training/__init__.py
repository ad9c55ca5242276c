"""Parts of the training loop: phases, roles, batches, updates, alarms."""
