"""Running the chat templates of models: untrusted jinja2, bounded.

Templates come with checkpoints, so they run in jinja2's immutable sandbox,
and there they cannot run for ever or fill the memory either: loop iterations
and macro calls are counted, and texts that operators, blocks and calls build
are limited. (One filter or method call on a text within the limit is not
interrupted.) The environment is otherwise that of transformers, so that a
model's template gives the text the model was trained on.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

MAX_STEPS = 100_000  # loop iterations and macro calls of one rendering
MAX_TEXT = 2_000_000  # characters of any text in a rendering
MAX_BITS = 1024  # of an integer
MAX_REPEAT = 1000  # what a text or list may be multiplied by


def render(source: str, variables: Mapping[str, Any]) -> str:
  """Renders a template.

  Args:
    source: jinja2.
    variables: what it reads: messages, add_generation_prompt, bos_token, ...

  Raises:
    ValueError: it does not compile, fails, or passes a limit.
  """
  try:
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
  """Sends the `~` operator through `_Environment.concat`."""

  def visit_Concat(self, node, frame):  # noqa: N802
    """Writes the call."""
    self.write('environment.concat((')
    for part in node.nodes:
      self.visit(part, frame)
      self.write(', ')
    self.write('))')


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
  """One template's sandbox, with its count of steps."""

  code_generator_class = _CodeGenerator
  intercepted_binops = frozenset(['+', '*', '**', '%'])

  def __init__(self):
    super().__init__(
      trim_blocks=True,
      lstrip_blocks=True,
      extensions=[_Generation, jinja2.ext.loopcontrols],
    )
    self.steps = 0
    self.filters['tojson'] = _tojson
    self.globals['raise_exception'] = _raise_exception
    self.globals['strftime_now'] = _strftime_now

  def _parse(self, source, name, filename):
    """Sets a `tick()`, out of the template's reach, in front of each body."""
    tree = super()._parse(source, name, filename)
    for node in tree.find_all((jinja2.nodes.For, jinja2.nodes.Macro)):
      tick = jinja2.nodes.EnvironmentAttribute('tick')
      call = jinja2.nodes.Call(tick, [], [], None, None)
      node.body.insert(0, jinja2.nodes.ExprStmt(call))
    return tree.set_environment(self)

  def tick(self):
    """Counts one loop iteration or macro call."""
    self.steps += 1
    if self.steps > MAX_STEPS:
      raise ValueError(f'got over {MAX_STEPS} loop steps')

  def bound(self, text):
    """Returns `text`, or any value, unless it is too large."""
    if isinstance(text, str | list | tuple) and len(text) > MAX_TEXT:
      raise ValueError(f'got over {MAX_TEXT} characters')
    if isinstance(text, int) and text.bit_length() > MAX_BITS:
      raise ValueError(f'got an integer of over {MAX_BITS} bits')
    return text

  def concat(self, parts):
    """Joins the pieces of a `~`, of a block, or of the whole output."""
    kept, length = [], 0
    for part in map(str, parts):
      length += len(part)
      if length > MAX_TEXT:
        raise ValueError(f'got over {MAX_TEXT} characters')
      kept.append(part)
    return ''.join(kept)

  def call(self, *args, **kwargs):
    """Calls what the sandbox lets through, and bounds its result."""
    return self.bound(super().call(*args, **kwargs))

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
    return self.bound(super().call_binop(context, operator, left, right))


def _tojson(value, ensure_ascii=False, indent=None):
  # Not jinja2's own, which escapes HTML.
  return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message):
  raise jinja2.TemplateError(message)


def _strftime_now(form):
  return datetime.datetime.now().strftime(form)
