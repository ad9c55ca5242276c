"""Models whose texts a test writes, and small records, for the loop's tests."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from helpers import text_of
from ml_collections import ConfigDict

from configs import common
from critic_jax import lookup
from critic_jax.answers import final_answers
from critic_jax.rollouts import rollout
from critic_jax.runtime import sharding
from critic_jax.sampling.lm import LM
from critic_jax.tasks import arithmetic
from critic_jax.training import roles
from critic_jax.types import Begun, Generation, Problem

PROBLEM = Problem(
  'sum-0',
  'Ada has 5 eggs. Ada finds 2 more. Ada then has 2 times as many. '
  'How many eggs?',
  '14',
  'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 14\nThe answer is \\boxed{14}.',
)
RIGHT = PROBLEM.solution
WRONG = 'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 16\nThe answer is \\boxed{16}.'
ADVICE = 'Step 1 is wrong. It should be\nStep 1: 5 + 2 = 7'


def grade(pairs):
  """Grades without processes."""
  return [final_answers.grade(*pair) for pair in pairs]


def critique(verdict, advice='There is a mistake.', thoughts='Hm.'):
  """Writes a critique in the form the parser expects."""
  return f'<think>\n{thoughts}\n</think>\n{advice}\nVerdict: {verdict}'


def solution(lm, text=WRONG, problem=PROBLEM, **parsed):
  """Makes a graded solution by hand."""
  record = rollout.write(lm.stages.solve, problem, text)
  [record] = rollout.grade([record], grade)
  return dataclasses.replace(record, parsed={**record.parsed, **parsed})


@functools.cache
def mesh():
  """Makes a mesh of one device."""
  return sharding.make_mesh({'data': 1}, jax.devices()[:1])


def nano(**settings) -> LM:
  """Returns a nano model that reads the arithmetic world's tokens."""
  key = repr(sorted(settings.items()))
  if key not in _nanos:
    _nanos[key] = _make_nano(settings)
  return _nanos[key]


_nanos: dict[str, LM] = {}


def _make_nano(settings):
  tokenizer = dict(
    module='arithmetic_tokenizer',
    name='tokenizer',
    vocab_size=640,
    num_problems=50,
  )
  section = common.model(
    'nano', tokenizer=tokenizer, max_new_tokens=48, lengths=(128,), max_rows=64
  )
  return roles.make_lms({'role': section | settings})['role']


def init(seed=0, **lms):
  """Returns drawn parameters of nano models, equal ones once, by role."""
  drawn = seed, *((role, lm.model) for role, lm in lms.items())
  if drawn not in _inits:
    _inits[drawn] = roles.init_params(lms, {}, mesh(), jax.random.key(seed))
  return dict(_inits[drawn])


_inits: dict[tuple, dict] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Scripted(LM):
  """An LM that writes what `script(prompt, index)` says.

  Attributes:
    script: -> a text; one longer than the limit is cut.
    prompts: the texts that it was asked, in order.
  """

  script: Callable = lambda prompt, index: ''
  prompts: list = dataclasses.field(default_factory=list)

  def bind(self, params):
    """Returns a `Generate` that reads no parameters."""
    del params

    def generate(prompts, keys, n, max_prompts):
      del keys
      self.prompts.extend(map(text_of, prompts))
      return [
        [self._say(prompt, index) for index in range(n)] for prompt in prompts
      ]

    return generate

  def _say(self, prompt, index):
    prompt_tokens = np.array(self.encode_prompt(prompt), np.int32)
    if len(prompt_tokens) > self.lengths[-1]:
      no_logprobs = np.zeros(0, np.float32)
      return Generation(prompt_tokens, no_logprobs, no_logprobs, '', 'prompt')
    text = self.script(text_of(prompt), index)
    given = prompt.text if isinstance(prompt, Begun) else ''
    tokens, finish = self.encode_response(text), 'stop'
    if len(tokens) > self.max_new_tokens:
      tokens, finish = tokens[: self.max_new_tokens], 'length'
      text = self.tokenizer.decode(tokens)
    return Generation(
      prompt_tokens,
      np.array(tokens, np.int32),
      np.full(len(tokens), -1.0, np.float32),
      given + text,
      finish,
    )


def scripted(script, **settings) -> Scripted:
  """Makes a nano model with a script."""
  lm = nano(**settings)
  fields = {
    f.name: getattr(lm, f.name) for f in dataclasses.fields(lm) if f.init
  }
  return Scripted(**fields, script=script)


def problems(n):
  """Returns the first problems of the world."""
  return arithmetic.problems('train', n, min_steps=3, max_steps=4)


def finish(prompt, index, *, results=()):
  """Goes on with a solution of the world, also with none, and errs no more.

  Args:
    prompt: the prompt of a solution, and what it begins with.
    index: of the response.
    results: in place of true results, of the first steps that are left.
  """
  question, _, begun = prompt.partition('\nSolution:')
  problem = next(
    p for p in [PROBLEM, *problems(60)] if question == f'Problem: {p.question}'
  )
  steps = arithmetic.read_steps(begun)
  program = arithmetic.read_program(problem)
  value = steps[-1].result if steps else program.start
  operations = program.operations[len(steps) :]
  for i, (op, right) in enumerate(operations):
    result = arithmetic.compute(value, op, right)
    result = results[i] if i < len(results) else result
    number = len(steps) + 1
    steps.append(arithmetic.Step(number, value, op, right, result))
    value = result
  written = arithmetic.write_solution(steps)
  num_lines = len(begun.split('\n')) if begun else 0
  rest = written.split('\n')[num_lines:]
  return '\n'.join([*([''] if begun else []), *rest])


def make_recipe(module, section, models, grade):
  """Makes the recipe of a phase's section, without the loop's settings."""
  names = lookup.settings_of(module.make)
  own = {name: value for name, value in section.items() if name in names}
  return module.make(models, grade, **own)


def settings(section, **changes):
  """Returns a phase's section as a ConfigDict."""
  return ConfigDict({'row_shapes': (), 'microbatches': 1, **section, **changes})
