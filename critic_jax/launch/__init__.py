"""Grids of runs, here and on clusters; `python -m critic_jax.launch`."""
