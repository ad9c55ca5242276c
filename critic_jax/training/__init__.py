"""What the loop is made of: phases, roles, updates, alarms."""
