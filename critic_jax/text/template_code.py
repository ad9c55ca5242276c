"""The code that jinja2 makes of a chat template, changed so that it counts.

Operators, literals and slices are sent to the environment, which counts and
weighs them (`chat_template.py`), and a body that may run again begins with a
call that counts its statements.
"""

from __future__ import annotations

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.nodes

_STEP_NODES = 20  # parts of a body that take as long as a step
_BODIES = (
  jinja2.nodes.For,
  jinja2.nodes.Macro,
  jinja2.nodes.CallBlock,
  jinja2.nodes.Block,
)


def count_bodies(tree: jinja2.nodes.Template) -> None:
  """Puts a call of `counted` in front of each body that may run again.

  The template cannot reach the function that is called.
  """
  for node in tree.find_all(_BODIES):
    size = sum(1 for _ in node.find_all(jinja2.nodes.Node))
    steps = jinja2.nodes.Const(1 + size // _STEP_NODES)
    counted = jinja2.nodes.EnvironmentAttribute('counted')
    call = jinja2.nodes.Call(counted, [steps], [], None, None)
    if getattr(node, 'test', None):  # of a loop: it runs without the body
      node.test = jinja2.nodes.And(call, node.test)
    node.body.insert(0, jinja2.nodes.ExprStmt(call))


class GenerationBlock(jinja2.ext.Extension):
  """Transformers' `{% generation %}` block: its body, unchanged."""

  tags = {'generation'}

  def parse(self, parser):
    """Reads up to the end tag."""
    next(parser.stream)
    return parser.parse_statements(('name:endgeneration',), drop_needle=True)


class CodeGenerator(jinja2.compiler.CodeGenerator):
  """Sends `~`, literals, comparisons and slices to the environment."""

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

  def visit_Compare(self, node, frame):  # noqa: N802
    """Counts both sides as read."""
    self.write('(')
    self._charge(node.expr, frame)
    for operand in node.ops:
      self.write(f' {jinja2.compiler.operators[operand.op]} ')
      self._charge(operand.expr, frame)
    self.write(')')

  def visit_Getitem(self, node, frame):  # noqa: N802
    """Counts a slice as made."""
    is_slice = isinstance(node.arg, jinja2.nodes.Slice)
    self.write('environment.charged(' if is_slice else '')
    super().visit_Getitem(node, frame)
    self.write(')' if is_slice else '')

  def _charge(self, node, frame):
    self.write('environment.charged(')
    self.visit(node, frame)
    self.write(')')
