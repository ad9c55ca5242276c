"""Chat templates of models, rendered: untrusted jinja2, bounded.

Templates come with checkpoints, so they run in jinja2's immutable sandbox, with
bounds on work and memory. All that takes time or memory is counted in steps:
iterations, calls, the statements of a body that may run again, and the
characters and items that an operation reads or makes. A text may be long; what
is bounded is the sum. A value is weighed, with all that it holds, when it is
made, passed on or written (the last of twenty lists, each holding the one
before twice, would be written as a million), and what may make more than it
reads is refused before it does.

The environment is otherwise that of transformers, so that a model's template
gives the text the model was trained on; but there are no widths in the format
of a text or a date, no `lipsum`, the methods of a text and the filters are
those of `_METHODS` and `_FILTERS`, and the date is the run's: a prompt is a
function of the config, not of the clock.
"""

from __future__ import annotations

import datetime
import functools
import inspect
import json
import re
import sys
import types
from collections import abc
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import jinja2.utils

from critic_jax.text import template_code

MAX_SOURCE = 100_000  # characters of a template; published ones have 30,000
MAX_STEPS = 100_000  # the work of one rendering
MAX_TEXT = 2_000_000  # characters of any text in a rendering
MAX_ITEMS = 50_000  # items of a list, with the items of its items
MAX_BITS = 1024  # bits of an integer
MAX_REPEAT = 1000  # copies of a text or list by `*`
MAX_FORMAT = 100  # characters of a date's format
DATE = '2026-01-01'  # what a template is told that asks for today's date
# So much work takes as long, or as much memory, as a step: characters or items
# that are read or made.
_STEP_CHARACTERS, _STEP_ITEMS = 500, 40
# A width that pads, or one that is itself filled in.
_WIDTH = re.compile(r'\{[^{}]*:[^{}]*(?:\{|[0-9]{3})')
# Directives without a width: '%-d %b %Y'.
_DATE_FORMAT = re.compile(r'(?:[^%]|%[-_^#]?[A-Za-z%])*')
# The filters that work on texts and lists of any length, and never wait, draw
# random numbers or try expressions on a text.
_FILTERS = (
  'abs', 'attr', 'batch', 'capitalize', 'center', 'count', 'd', 'default',
  'dictsort', 'e', 'escape', 'first', 'float', 'groupby', 'indent', 'int',
  'items', 'join', 'last', 'length', 'list', 'lower', 'map', 'max', 'min',
  'reject', 'rejectattr', 'replace', 'reverse', 'round', 'safe', 'select',
  'selectattr', 'slice', 'sort', 'string', 'title', 'tojson', 'trim',
  'truncate', 'unique', 'upper',
)  # fmt: skip
_AT_ONCE = ('count', 'd', 'default', 'first', 'last', 'length')  # read no item
# The methods of a text; without `encode`, some of whose codecs take the square
# of its length.
_METHODS = (
  'capitalize', 'casefold', 'center', 'count', 'endswith', 'expandtabs', 'find',
  'format', 'index', 'isalnum', 'isalpha', 'isascii', 'isdecimal', 'isdigit',
  'isidentifier', 'islower', 'isnumeric', 'isprintable', 'isspace', 'istitle',
  'isupper', 'join', 'ljust', 'lower', 'lstrip', 'partition', 'removeprefix',
  'removesuffix', 'replace', 'rfind', 'rindex', 'rjust', 'rpartition', 'rsplit',
  'rstrip', 'split', 'splitlines', 'startswith', 'strip', 'swapcase', 'title',
  'upper', 'zfill',
)  # fmt: skip
# Keywords of jinja2's own, passed with each call inside a loop or a block.
_HIDDEN = ('_loop_vars', '_block_vars')


def render(
  source: str, variables: Mapping[str, Any], *, date: str = DATE
) -> str:
  """Renders a template.

  Args:
    source: jinja2.
    variables: messages, add_generation_prompt, bos_token, ...
    date: the day that `strftime_now` prints, as '2026-01-31'; its clock shows
      midnight.

  Raises:
    ValueError: the template does not compile, fails, or passes a limit.
  """
  now = datetime.datetime.fromisoformat(date)
  try:
    if len(source) > MAX_SOURCE:
      raise ValueError(f'got over {MAX_SOURCE} characters of source')
    template = _compile(source)
    template.environment.steps = 0
    strftime_now = functools.partial(_strftime, now)
    return template.render(strftime_now=strftime_now, **variables)
  except Exception as e:  # a template may fail in any way an expression may
    raise ValueError(
      f'chat template: got {type(e).__name__}: {str(e)[:300]}; expected one '
      'that renders these messages'
    ) from e


def literals(source: str) -> list[str]:
  """Returns the texts that a template's source holds; [] if it is broken."""
  try:
    tree = _Environment().parse(source[:MAX_SOURCE])
    nodes = tree.find_all((jinja2.nodes.Const, jinja2.nodes.TemplateData))
    texts = [
      getattr(node, 'value', getattr(node, 'data', '')) for node in nodes
    ]
  except (jinja2.TemplateError, RecursionError, MemoryError):
    return []
  return [text for text in texts if isinstance(text, str)]


@functools.lru_cache(maxsize=16)
def _compile(source):
  return _Environment().from_string(source)


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
  """One template's sandbox, with its count of steps."""

  code_generator_class = template_code.CodeGenerator
  intercepted_binops = frozenset(['+', '*', '**', '%'])

  def __init__(self):
    super().__init__(
      trim_blocks=True,
      lstrip_blocks=True,
      optimized=False,  # what is computed is counted, so not while compiling
      extensions=[template_code.GenerationBlock, jinja2.ext.loopcontrols],
      finalize=_written,
    )
    self.steps = 0
    self.filters['tojson'] = self._tojson
    self.filters = {n: self._guarded(n, self.filters[n]) for n in _FILTERS}
    self.tests = {n: self._guarded_test(f) for n, f in self.tests.items()}
    del self.globals['lipsum']
    self.globals['raise_exception'] = _raise_exception

  def _parse(self, source, name, filename):
    """Parses a template, so that its bodies count."""
    tree = super()._parse(source, name, filename)
    template_code.count_bodies(tree)
    return tree.set_environment(self)

  def counted(self, steps):
    """Counts the steps of a body, and returns True."""
    self.tick(steps - 1)  # the call is one
    return True

  def tick(self, steps=1):
    """Counts steps: loop iterations, calls, or work that takes as long."""
    self.steps += steps
    if self.steps > MAX_STEPS:
      raise ValueError(f'got over {MAX_STEPS} steps')

  def weighed(self, value):
    """Returns a value, unless it is too large with all that it holds."""
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
      raise ValueError(f'got an integer of over {MAX_BITS} bits')
    if isinstance(value, types.GeneratorType):
      value = iter(self.weighed(self._as_list(value)))
    self._weight(value)
    return value

  def charged(self, value):
    """Returns a value that is read or made: weighed, and counted if long."""
    if isinstance(value, str):  # its bytes: a character has up to four
      self.tick(sys.getsizeof(value) // _STEP_CHARACTERS)
    return self.weighed(value)

  def _as_list(self, items):
    """Lists the items of a generator until they are too large."""
    values, weight = [], 0
    for item in items:
      values.append(item)
      weight += self._weight(item)
      if weight > MAX_TEXT:
        raise ValueError(f'got over {MAX_TEXT} characters')
      if len(values) > MAX_ITEMS:
        raise ValueError(f'got over {MAX_ITEMS} items')
    return values

  def _weight(self, value):
    """Returns the characters and items of a value, repeated ones counted."""
    length, items, stack = 0, 0, [(value,)]
    while stack:
      container = stack.pop()
      items += len(container)
      if items > MAX_ITEMS:
        raise ValueError(f'got over {MAX_ITEMS} items')
      for part in container:
        if isinstance(part, jinja2.utils.Namespace):
          part = part._Namespace__attrs  # it has no other way in
        if isinstance(part, str):
          length += len(part)
        elif isinstance(part, range):
          self.tick(len(part) // _STEP_ITEMS)
        elif isinstance(part, dict):
          stack += [part.keys(), part.values()]
        elif isinstance(part, _CONTAINERS):
          stack.append(part)
      if length > MAX_TEXT:
        raise ValueError(f'got over {MAX_TEXT} characters')
    self.tick(items // _STEP_ITEMS)
    return length + items

  def _check_work(self, name, subject, arguments):
    """Counts a filter or method, and refuses one that may make too much.

    Args:
      name: that of the filter or method.
      subject: the value that it works on.
      arguments: the others, by position and by keyword.
    """
    weights = [self._weight(subject)]
    for argument in arguments:
      number = argument if isinstance(argument, int | float) else 1
      if not abs(number) <= MAX_STEPS:
        raise ValueError(f'got the argument {number}; expected a smaller one')
      weights.append(max(self._weight(argument), int(abs(number))))
    if _size(name, subject, arguments, weights) > 2 * MAX_TEXT:
      raise ValueError(f'got {name!r} of over {MAX_TEXT} characters')
    for value, weight in zip((subject, *arguments), weights, strict=True):
      if not isinstance(value, _CONTAINERS):  # their items were counted
        self.tick(weight // _STEP_CHARACTERS)

  def _guarded(self, name: str, function: Callable) -> Callable:
    """Returns a filter that checks its arguments and its result."""
    hidden = hasattr(function, 'jinja_pass_arg')  # the first is jinja2's own
    order = {p: i for i, p in enumerate(inspect.signature(function).parameters)}

    @functools.wraps(function)
    def guarded(*args, **kwargs):
      subject, *arguments = args[hidden:]
      named = sorted(kwargs, key=lambda p: order.get(p, len(order)))
      arguments += [kwargs[p] for p in named]
      if name not in _AT_ONCE:
        self._check_work(name, subject, arguments)
      return self.charged(function(*args, **kwargs))

    return guarded

  def _guarded_test(self, function: Callable) -> Callable:
    """Returns a test, such as `in`, that counts both sides as read."""
    hidden = hasattr(function, 'jinja_pass_arg')

    @functools.wraps(function)
    def guarded(*args, **kwargs):
      sides = [*args[hidden:], *kwargs.values()]
      for side in sides if len(sides) > 1 else ():
        self.charged(side)
      return function(*args, **kwargs)

    return guarded

  def concat(self, parts):
    """Joins the pieces of a `~`, of a block, or of the whole output."""
    pieces, length = [], 0
    for part in parts:
      part = self.text(part)
      length += len(part)
      if length > MAX_TEXT:
        raise ValueError(f'got over {MAX_TEXT} characters')
      pieces.append(part)
    return self.charged(''.join(pieces))

  def text(self, value):
    """Returns a value as it is written; a text that is made is counted."""
    value = self.weighed(value)
    if isinstance(value, str):
      return value
    self.tick(self._weight(value) // _STEP_CHARACTERS)
    return self.charged(str(value))

  def call(self, context, function, *args, **kwargs):
    """Calls a function that the sandbox permits, and weighs its result."""
    self.tick()
    # jinja2 wraps `format`, to look after attributes.
    method = getattr(function, '__wrapped__', function)
    subject = getattr(method, '__self__', None)
    arguments = [*args, *(v for k, v in kwargs.items() if k not in _HIDDEN)]
    if subject is None or subject is self:  # a macro, or a function of ours
      self._weight(arguments)
    else:
      name = getattr(method, '__name__', '')
      if (
        isinstance(subject, str)
        and name not in _METHODS
        or isinstance(subject, int | float | bytes)
      ):
        raise ValueError(f'got the method {name!r}; expected a common one')
      if name == 'format' and _WIDTH.search(subject):
        raise ValueError(f'got the format {subject!r}; expected no width')
      self._check_work(f'.{name}', subject, arguments)
    return self.charged(super().call(context, function, *args, **kwargs))

  def call_binop(self, context, operator, left, right):
    """Refuses powers, long repetitions, and formatting, which can pad."""
    if operator == '**' or (operator == '%' and isinstance(left, str)):
      raise ValueError(f'got the operator {operator!r}; expected none')
    if operator == '*':
      number = (int, float)
      if not isinstance(left, number):
        left, right = right, left
      if not isinstance(right, number):
        if left > MAX_REPEAT:
          raise ValueError(f'got {left} copies; expected at most {MAX_REPEAT}')
        if left * self._weight(right) > MAX_TEXT:
          raise ValueError(f'got over {MAX_TEXT} characters')
    return self.charged(super().call_binop(context, operator, left, right))

  def _tojson(self, value, ensure_ascii=False, indent=None):
    """Writes JSON, piece by piece until it is too long.

    It is not jinja2's own filter, which escapes HTML.
    """
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent)
    return self.concat(encoder.iterencode(value))


_CONTAINERS = (
  list,
  dict,
  tuple,
  set,
  frozenset,
  abc.KeysView,
  abc.ValuesView,
  abc.ItemsView,
)


@jinja2.pass_context  # that is: not while compiling
def _written(context, value):
  """Returns a value as an output writes it."""
  return context.environment.text(value)


def _size(name, subject, arguments, weights) -> int:
  """Bounds the characters and items of a filter's or a method's result.

  Most make no more than they read. In others a text, or a width, may be put in
  at several places of the subject.

  Args:
    name: that of the filter, or of the method after a dot.
    subject: the value that it works on.
    arguments: the others, in the order of the signature.
    weights: the weight of the subject and of each argument.
  """
  total = sum(weights)
  if name == 'indent':
    width = weights[1] if arguments else 4
    return total + str(subject).count('\n') * width
  if name == '.expandtabs':
    return total + subject.count('\t') * max(8, total - weights[0])
  if name == '.format':
    return total + subject.count('{') * (total - weights[0] + 99)
  if name == '.join' and arguments:
    return total + weights[0] * _length(arguments[0])
  if name == 'join' and arguments:
    return total + weights[1] * _length(subject)
  if name in ('replace', '.replace') and len(arguments) > 1:
    old, new = map(str, arguments[:2])
    return total + str(subject).count(old) * max(0, len(new) - len(old))
  return total


def _length(value) -> int:
  return len(value) if hasattr(value, '__len__') else MAX_ITEMS


def _raise_exception(message):
  raise jinja2.TemplateError(message)


def _strftime(now, form):
  if len(form) > MAX_FORMAT or not _DATE_FORMAT.fullmatch(form):
    raise ValueError(
      f'got the date format {form[:MAX_FORMAT]!r}; expected at most '
      f"{MAX_FORMAT} characters, and directives without a width, as '%d %b %Y'"
    )
  return now.strftime(form)
