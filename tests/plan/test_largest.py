"""The largest sizes that fit, by a compiler whose bytes a test chooses."""

import types

import pytest
from jax.sharding import AbstractMesh

from configs import refcritic
from critic_jax.plan import abstract, forecast, largest
from critic_jax.plan.chips import CHIPS
from critic_jax.plan.compiled import Compiled
from critic_jax.plan.speed import Shares
from critic_jax.runtime import sharding

ROWS, MICROBATCHES = 24, 4  # of the batch, and the config's own


def result(kind, program, total):
  """A program that takes so many bytes, its one parameter included."""
  role = 'critic' if kind == 'update' else 'solver'
  return Compiled(
    kind, program, role, '', total, 0, 0, None, None, 1.0, [], {'held': 1}
  )


@pytest.fixture(scope='module')
def planned():
  """A config of one phase, its LMs, and its plan but for its sizes."""
  config = refcritic.get_config('tiny')
  config.order = ('rl',)
  config.phases.rl.microbatches = MICROBATCHES
  lms = abstract.make_lms(config, 'cpu')
  mesh = AbstractMesh((1,) * len(sharding.AXES), sharding.AXES)
  plan = forecast.make(config, mesh, CHIPS['cpu'], Shares())
  phase = plan.phases[0]._replace(
    rows=ROWS // MICROBATCHES, held={'parameters': 1}, sampling={}, scoring={}
  )
  return config, lms, phase


def search(planned, limit, compiled):
  """Searches where a row takes a byte and a slot two; notes what is tried."""
  config, lms, phase = planned

  def programs(config, lms, kind):
    name = 'update' if kind == 'update' else f'refine: {kind}'
    return [types.SimpleNamespace(name=name, kind=kind, config=config, lms=lms)]

  def measure(program, lms):
    if program.kind == 'update':
      total = ROWS // program.config.phases.rl.microbatches
    else:
      total = 2 * program.lms['solver'].max_rows
    compiled.append(total)
    return result(program.kind, program.name, total)

  slots = 2 * lms['solver'].max_rows
  results = [
    result('update', 'update', phase.rows),
    result('insert', 'solve: insert', 1),
    result('decode', 'refine: decode', slots),
  ]
  return largest.Search(config, lms, phase, results, limit, programs, measure)


@pytest.mark.parametrize(
  ('estimate', 'limit', 'rows', 'compiled'),
  [
    (99, 99, 24, [24]),  # all of the batch
    (99, 23, 12, [24, 12]),  # the next that divides it
    (13, 99, 12, [12]),  # the plan says where to begin
    (8, 6, 6, [8]),  # the config's own was compiled before
    (5, 3, 3, [4, 3]),
    (99, 0, 0, [24, 12, 8, 4, 3, 2, 1]),
  ],
)
def test_rows_of_a_micro_batch(planned, estimate, limit, rows, compiled):
  tried = []
  numbers = largest.confirmed(search(planned, limit, tried), most_rows=estimate)
  assert numbers == {'most_rows': rows}
  assert tried == compiled


def test_slots_are_at_most_the_responses_of_a_step(planned):
  config, lms, _ = planned
  section = config.phases.rl
  responses = section.batch_size * section.num_solutions
  responses *= section.num_critiques * section.num_refinements
  numbers = largest.confirmed(search(planned, 1e9, []), most_slots=1024)
  assert numbers['most_slots'] >= responses
  assert numbers['most_slots'] <= 2 * responses  # lanes are a power of two
  few = largest.confirmed(search(planned, 2 * 2, []), most_slots=1024)
  assert few == {'most_slots': 2}
  assert largest.confirmed(search(planned, 0, []), most_slots=4) == {
    'most_slots': 0
  }


def test_what_is_held_beside_a_program_counts(planned):
  config, lms, phase = planned
  phase = phase._replace(held={'parameters': 1, 'solver': 5})
  numbers = largest.confirmed(
    search((config, lms, phase), 24 + 4, []), most_rows=24
  )
  assert numbers == {'most_rows': 12}
