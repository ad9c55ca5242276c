"""A name in a config -> a function of a module: the module is the registry.

A config may name the public functions that a module defines itself. Their
arrays are positional, their settings keyword-only. Names and keywords are
checked when the function is looked up, so that a wrong config fails before the
first step, with a ValueError that lists the choices and the nearest of them.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any


def function(
  module: ModuleType | str, name: str, keywords: Iterable[str] = ()
) -> Callable[..., Any]:
  """Returns the public function `name` of `module`.

  >>> function('critic_jax.lookup', 'function').__name__
  'function'

  Args:
    module: a module, or its dotted path.
    name: the function's name; not imported into the module, no underscore.
    keywords: names of keyword-only parameters that the function must accept.

  Returns:
    The function.

  Raises:
    ValueError: no such function, or it does not accept one of `keywords`.
  """
  if isinstance(module, str):
    module = importlib.import_module(module)
  functions = {
    key: value
    for key, value in vars(module).items()
    if inspect.isfunction(value)
    and value.__module__ == module.__name__
    and not key.startswith('_')
  }
  check_name(f'function of {module.__name__}', name, functions)
  accepted = settings_of(functions[name])
  for keyword in keywords:
    check_name(f'keyword of {module.__name__}.{name}', keyword, accepted)
  return functions[name]


def bind(
  module: ModuleType | str, settings: Mapping[str, Any], setting: str = ''
) -> Callable[..., Any]:
  """Binds the function that `settings` names to its other entries.

  `bind(policy, {'name': 'ppo_clip', 'clip_high': 0.28})` is
  `partial(policy.ppo_clip, clip_high=0.28)`.

  Args:
    module: a module, or its dotted path.
    settings: 'name', and values of keyword-only parameters of that function.
    setting: the name of `settings` in the config, for errors.

  Returns:
    The function; only its positional parameters are left to give.

  Raises:
    ValueError: no 'name', no such function, a keyword that it does not accept,
      or one that it requires and `settings` lacks.
  """
  with naming(setting):
    path = module if isinstance(module, str) else module.__name__
    settings = _copied(settings)
    check_has('name', settings, f'function of {path}')
    name = settings.pop('name')
    bound = function(module, name, settings)
    _check_complete(bound, settings, f'{path}.{name}')
    _check_types(bound, settings)
    return functools.partial(bound, **settings)


def bind_in(
  package: str,
  settings: Mapping[str, Any],
  setting: str = '',
  parameters: Sequence[str] | None = None,
) -> Callable[..., Any]:
  """Binds a function of a module of a package, which `settings` names, too.

  `bind_in('tasks', {'module': 'lessons', 'name': 'reference'})` is
  `bind(critic_jax.tasks.lessons, {'name': 'reference'})`.

  Args:
    package: a package of critic_jax.
    settings: 'module', 'name', and values of keyword-only parameters.
    setting: the name of `settings` in the config, for errors.
    parameters: the positional parameters that the function must have.

  Returns:
    The function; only its positional parameters are left to give.

  Raises:
    ValueError: as `bind` and `module`; no 'module'; other parameters.
  """
  with naming(setting):
    settings = _copied(settings)
    check_has('module', settings, f'module of critic_jax.{package}')
    bound = bind(module(package, settings.pop('module')), settings)
    positional = [
      name
      for name, parameter in inspect.signature(bound).parameters.items()
      if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if parameters is not None and positional != list(parameters):
      raise ValueError(
        f'got {bound.func.__name__}({", ".join(positional)}); expected a '
        f'function of ({", ".join(parameters)})'
      )
    return bound


def bind_task(
  settings: Mapping[str, Any], setting: str, parameters: Sequence[str]
) -> Callable[..., Any] | None:
  """Binds a function of critic_jax.tasks, or None where `module` is ''."""
  if hasattr(settings, 'items') and settings.get('module') == '':
    return None
  return bind_in('tasks', settings, setting, parameters)


@contextlib.contextmanager
def naming(setting: str) -> Iterator[None]:
  """Within the block errors of a wrong value begin with the setting's name."""
  try:
    yield
  except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
    raise ValueError(
      f'{setting}: {error}' if setting else str(error)
    ) from error


def _copied(settings) -> dict[str, Any]:
  if not hasattr(settings, 'items'):  # a mapping or a ConfigDict
    raise ValueError(f"got {settings!r}; expected a section with a 'name'")
  return dict(settings)


def check_settings(
  function: Callable, settings: Mapping[str, Any], what: str
) -> None:
  """Checks the names in a section against a function's keyword parameters.

  Args:
    function: whose keyword-only parameters are the section's settings.
    settings: the section.
    what: how the section is called in errors.

  Raises:
    ValueError: a name that the function does not accept, or one is missing
      that it requires.
  """
  accepted = settings_of(function)
  for name in _copied(settings):
    check_name(f'setting of {what}', name, accepted)
  _check_complete(function, settings, what)
  _check_types(function, settings)


def check_has(name: str, settings: Mapping[str, Any], what: str) -> None:
  """Raises ValueError if a section lacks a name, with the nearest it has."""
  if name not in settings:
    nearest = difflib.get_close_matches(name, settings, n=1)
    hint = f'; did you mean {name!r} by {nearest[0]!r}?' if nearest else ''
    raise ValueError(
      f'settings: got {sorted(settings)}; expected {name!r}, of a {what}, and '
      f'keywords{hint}'
    )


def _check_complete(function, settings, what) -> None:
  missing = [
    name
    for name, parameter in settings_of(function).items()
    if parameter.default is parameter.empty and name not in settings
  ]
  if missing:
    raise ValueError(
      f'{what}: got {sorted(settings)}; expected also {missing}, which '
      'have no default; add them'
    )


def module(package: str, name: str) -> ModuleType:
  """Imports and returns the module `critic_jax.<package>.<name>`.

  Only public modules that lie in the package's folder are imported, whatever
  the name says.

  Args:
    package: a package of critic_jax, e.g. 'recipes' or 'rollouts.styles'.
    name: a module of it, e.g. 'refcritic'.

  Returns:
    The module.

  Raises:
    ValueError: no such package or module.
  """
  result = importlib.import_module('critic_jax')
  for part in (*package.split('.'), name):
    names = _module_names(tuple(getattr(result, '__path__', ())))
    check_name(f'module of {result.__name__}', part, names)
    result = importlib.import_module(f'{result.__name__}.{part}')
  return result


@functools.cache
def _module_names(folders: tuple[str, ...]) -> tuple[str, ...]:
  """Returns the names of the public modules in folders; reads them once."""
  names = (info.name for info in pkgutil.iter_modules(folders))
  return tuple(name for name in names if not name.startswith('_'))


# Annotations of settings, and the types of their values in a config.
_TYPES = {
  'bool': bool,
  'float': int | float,
  'int': int,
  'str': str,
  'None': type(None),
}


def _check_types(function, settings) -> None:
  """Raises ValueError for values that are not as the function is annotated."""
  for name, parameter in settings_of(function).items():
    annotation = str(parameter.annotation)
    kinds = annotation.split(' | ')
    if name not in settings or not set(kinds) <= set(_TYPES):
      continue
    value = settings[name]
    if isinstance(value, bool):  # in Python it is an int, too
      is_right = 'bool' in kinds
    else:
      is_right = any(isinstance(value, _TYPES[kind]) for kind in kinds)
    if not is_right:
      raise ValueError(f'{name}: got {value!r}; expected {annotation}')


def check_numbers(low: float = -math.inf, **values: float) -> None:
  """Checks that settings are numbers, and not below `low`.

  Raises:
    ValueError: one is not, by its name.
  """
  for name, value in values.items():
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not value >= low:
      bound = '' if low == -math.inf else f' of {low} or more'
      raise ValueError(f'{name}: got {value!r}; expected a number{bound}')


def check_counts(low: int = 1, **values: int) -> None:
  """Checks that settings are integers, and not below `low`.

  Raises:
    ValueError: one is not, by its name.
  """
  for name, value in values.items():
    is_count = isinstance(value, int) and not isinstance(value, bool)
    if not is_count or not low <= value < 2**31:
      raise ValueError(
        f'{name}: got {value!r}; expected an integer of {low} or more'
      )


def settings_of(function: Callable) -> dict[str, inspect.Parameter]:
  """Returns the keyword-only parameters of a function, by name."""
  parameters = inspect.signature(function).parameters
  return {
    name: parameter
    for name, parameter in parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
  }


def check_name(what: str, name: Any, choices: Iterable[str]) -> None:
  """Raises ValueError with the choices, and the nearest, if none is `name`."""
  choices = sorted(choices)
  if name not in choices:
    raise ValueError(
      f'{what}: got {name!r}; expected one of {choices}{_hint(name, choices)}'
    )


def _hint(name, choices) -> str:
  """Suggests the nearest choices: several, if they are equally near."""
  # A cutoff of a half finds one wrong letter of two.
  near = difflib.get_close_matches(str(name), choices, cutoff=0.5)
  ratios = [difflib.SequenceMatcher(None, str(name), c).ratio() for c in near]
  nearest = [
    repr(c)
    for c, ratio in zip(near, ratios, strict=True)
    if ratio == max(ratios)
  ]
  return f'; did you mean {" or ".join(nearest)}?' if nearest else ''
