"""How fast critic_jax is on this machine, and beside what others would use."""
