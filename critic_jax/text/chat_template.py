"""Chat templates of models, rendered: untrusted jinja2, bounded.

Templates come with checkpoints, so they run in jinja2's immutable sandbox, with
bounds on time and memory. Loop iterations and calls are counted. The weight of
a text, list or mapping, with all that it holds, is checked when it is made,
passed on or written (the last of twenty lists, each holding the one before
twice, would be written as a million). A filter or method is refused beforehand
if its arguments multiply to too much, as a text replaced by a text may.

The environment is otherwise that of transformers, so that a model's template
gives the text the model was trained on; but `lipsum`, the filters `sum` and
`format`, and widths in a text's `format` are missing.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import jinja2.utils

MAX_SOURCE = 500_000  # characters of a template
MAX_STEPS = 100_000  # loop iterations and calls of one rendering
MAX_TEXT = 2_000_000  # characters of any text in a rendering
MAX_ITEMS = 50_000  # items of a list, with the items of its items
MAX_BITS = 1024  # bits of an integer
MAX_REPEAT = 1000  # copies of a text or list by `*`
MAX_WORK = 100_000_000  # the sizes of a filter's arguments, multiplied
# A hundred items weighed, or this much work, also count as a step.
_STEP_ITEMS, _STEP_WORK = 100, 10_000
# A width that pads, or one that is itself filled in.
_WIDTH = re.compile(r'\{[^{}]*:[^{}]*(?:\{|[0-9]{3})')


def render(source: str, variables: Mapping[str, Any]) -> str:
  """Renders a template.

  Args:
    source: jinja2.
    variables: messages, add_generation_prompt, bos_token, ...

  Raises:
    ValueError: the template does not compile, fails, or passes a limit.
  """
  try:
    if len(source) > MAX_SOURCE:
      raise ValueError(f'got over {MAX_SOURCE} characters of source')
    template = _compile(source)
    template.environment.steps = 0
    return template.render(**variables)
  except Exception as e:  # a template may fail in any way an expression may
    raise ValueError(
      f'chat template: got {type(e).__name__}: {e}; expected one that renders '
      'these messages'
    ) from e


@functools.lru_cache(maxsize=16)
def _compile(source):
  return _Environment().from_string(source)


class _Generation(jinja2.ext.Extension):
  """Transformers' `{% generation %}` block: its body, unchanged."""

  tags = {'generation'}

  def parse(self, parser):
    """Reads up to the end tag."""
    next(parser.stream)
    return parser.parse_statements(('name:endgeneration',), drop_needle=True)


class _CodeGenerator(jinja2.compiler.CodeGenerator):
  """Sends the `~` operator and literals to the environment."""

  def visit_Concat(self, node, frame):  # noqa: N802
    """Writes the call."""
    self.write('environment.concat((')
    for part in node.nodes:
      self.visit(part, frame)
      self.write(', ')
    self.write('))')

  def visit_List(self, node, frame):  # noqa: N802
    """Weighs a list."""
    self.write('environment.weighed(')
    super().visit_List(node, frame)
    self.write(')')

  def visit_Dict(self, node, frame):  # noqa: N802
    """Weighs a mapping."""
    self.write('environment.weighed(')
    super().visit_Dict(node, frame)
    self.write(')')

  def visit_Tuple(self, node, frame):  # noqa: N802
    """Weighs a tuple that is no target of an assignment."""
    is_value = node.ctx == 'load'
    self.write('environment.weighed(' if is_value else '')
    super().visit_Tuple(node, frame)
    self.write(')' if is_value else '')


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
  """One template's sandbox, with its count of steps."""

  code_generator_class = _CodeGenerator
  intercepted_binops = frozenset(['+', '*', '**', '%'])

  def __init__(self):
    super().__init__(
      trim_blocks=True,
      lstrip_blocks=True,
      extensions=[_Generation, jinja2.ext.loopcontrols],
      finalize=lambda value: self.weighed(value),  # weighs output
    )
    self.steps = 0
    self.filters['tojson'] = _tojson
    # Lists added up are copied each time; `format` pads.
    for name in ('sum', 'format'):
      del self.filters[name]
    self.filters = {n: self._guarded(f) for n, f in self.filters.items()}
    del self.globals['lipsum']
    self.globals['raise_exception'] = _raise_exception
    self.globals['strftime_now'] = _strftime_now

  def _parse(self, source, name, filename):
    """Puts a call, which is counted, in front of each loop's body.

    The template cannot reach the function that is called.
    """
    tree = super()._parse(source, name, filename)
    for node in tree.find_all(jinja2.nodes.For):
      nothing = jinja2.nodes.EnvironmentAttribute('nothing')
      call = jinja2.nodes.Call(nothing, [], [], None, None)
      node.body.insert(0, jinja2.nodes.ExprStmt(call))
    return tree.set_environment(self)

  def nothing(self):
    """Does nothing."""

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

  def _as_list(self, items):
    """Lists the items of a generator until they are too large."""
    values, weight = [], 0
    for item in items:
      values.append(item)
      weight += self._weight(item)
      if weight > MAX_TEXT:
        raise ValueError(f'got over {MAX_TEXT} characters')
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
        if isinstance(part, str | bytes):
          length += len(part)
        elif isinstance(part, dict):
          stack += [part.keys(), part.values()]
        elif isinstance(part, list | tuple | set | frozenset):
          stack.append(part)
      if length > MAX_TEXT:
        raise ValueError(f'got over {MAX_TEXT} characters')
    self.tick(items // _STEP_ITEMS)
    return length + items

  def _check_work(self, subject, arguments):
    """Refuses a filter or method that may read, or make, too much."""
    work = max(1, self._weight(subject))
    for argument in arguments:
      number = argument if isinstance(argument, int | float) else 1
      if not abs(number) <= MAX_STEPS:
        raise ValueError(f'got the argument {number}; expected a smaller one')
      work *= max(1, self._weight(argument), abs(number))
    if work > MAX_WORK:
      raise ValueError(f'got arguments too long for each other: {work:.0e}')
    self.tick(int(work) // _STEP_WORK)

  def _guarded(self, function: Callable) -> Callable:
    """Returns a filter that checks its arguments and its result."""
    hidden = hasattr(function, 'jinja_pass_arg')  # the first is jinja2's own

    @functools.wraps(function)
    def guarded(*args, **kwargs):
      subject, *arguments = args[hidden:]
      self._check_work(subject, [*arguments, *kwargs.values()])
      return self.weighed(function(*args, **kwargs))

    return guarded

  def concat(self, parts):
    """Joins the pieces of a `~`, of a block, or of the whole output."""
    pieces, length = [], 0
    for part in parts:
      part = str(self.weighed(part))
      length += len(part)
      if length > MAX_TEXT:
        raise ValueError(f'got over {MAX_TEXT} characters')
      pieces.append(part)
    return ''.join(pieces)

  def call(self, context, function, *args, **kwargs):
    """Calls a function that the sandbox permits, and weighs its result."""
    self.tick()
    # jinja2 wraps `format`, to look after attributes.
    method = getattr(function, '__wrapped__', function)
    subject = getattr(method, '__self__', None)
    arguments = [*args, *kwargs.values()]
    if subject is None:  # a macro, or a function of ours
      self._weight(arguments)
    else:
      self._check_work(subject, arguments)
    if isinstance(subject, str) and method.__name__.startswith('format'):
      if _WIDTH.search(subject):
        raise ValueError(f'got the format {subject!r}; expected no width')
    return self.weighed(super().call(context, function, *args, **kwargs))

  def call_binop(self, context, operator, left, right):
    """Refuses powers, long repetitions, and formatting, which can pad."""
    if operator == '**' or (operator == '%' and isinstance(left, str)):
      raise ValueError(f'got the operator {operator!r}; expected none')
    if operator == '*':
      number = (int, float)
      if not isinstance(left, number):
        left, right = right, left
      if not isinstance(right, number) and left > MAX_REPEAT:
        raise ValueError(f'got {left} copies; expected at most {MAX_REPEAT}')
    return self.weighed(super().call_binop(context, operator, left, right))


def _tojson(value, ensure_ascii=False, indent=None):
  # Not jinja2's own, which escapes HTML.
  return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message):
  raise jinja2.TemplateError(message)


def _strftime_now(form):
  return datetime.datetime.now().strftime(form)
