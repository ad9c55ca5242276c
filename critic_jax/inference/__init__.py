"""A solver and a critic that answer from Python; see `critic_jax.load`."""
