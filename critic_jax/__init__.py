"""Training language-model critics by reinforcement learning, in JAX.

    loop = critic_jax.load('runs/quickstart:rl')
    [solution] = loop.solve('Ada has 5 eggs. Ada finds 2 more. How many eggs?')
    critiques = loop.critique(solution.problem, solution, n=4)
    [refined] = loop.refine(critiques[0])
    share = loop.score(solution.problem, solution)

`load` takes a run's folder, or weights; `critic_jax/inference/README.md` has
more. Nothing else is imported, nor jax, before a name of this module is used.
Commands are `python -m critic_jax.train` and its like, or `critic-jax-train`.
"""

import importlib

__version__ = '0.1.0'

# The module that each name of `__all__` is imported from when it is used.
_MODULES = {
  'load': 'inference.interactive',
  'Loop': 'inference.interactive',
  'Problem': 'types',
  'Record': 'types',
}
__all__ = ['Loop', 'Problem', 'Record', 'load']


def __getattr__(name: str):
  """Imports a name of `__all__`."""
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
