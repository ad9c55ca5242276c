"""Programs of tiny models of each family, compiled for chips that are absent.

A selection that covers chips, families, axes of the mesh and dtypes; the sizes
are the smallest that the meshes divide.
"""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import warnings

import jax
import pytest
from helpers import OTHER_FAMILIES

from configs import ppo, refcritic
from critic_jax.plan import __main__ as command
from critic_jax.plan import (
  abstract,
  compiled,
  compiled_table,
  hlo,
  memory,
  topology,
)
from critic_jax.plan.chips import CHIPS
from critic_jax.runtime import compilation, sharding
from critic_jax.terminal import Console

ROOT = pathlib.Path(__file__).parents[2]
FAMILIES = OTHER_FAMILIES | {
  'llama': dict(tie_embeddings=False),
  'qwen2': dict(qkv_bias=True),
  'qwen3': dict(qk_norm=True, tie_embeddings=False),
}
MESHES = {
  'v5e': dict(fsdp=4, tensor=2),
  'v6e': dict(fsdp=2, tensor=2, sequence=2),
  'v5p': dict(data=2, fsdp=2, tensor=2),
  'h100': dict(data=2, fsdp=2, tensor=2),
  'a100': dict(fsdp=2, tensor=2, sequence=2),
}


def tiny(recipe=refcritic, name='rl', platform='tpu', **changes):
  """The tiny config, and its LMs with other fields."""
  config = recipe.get_config('tiny')
  fields = dict(
    num_layers=1, embed_dim=64, mlp_dim=128, num_heads=4, num_kv_heads=2,
    head_dim=16, vocab_size=128, dtype='bfloat16', remat='full',
  )  # fmt: skip
  lms = {
    role: abstract.changed(lm, **(fields | changes))
    for role, lm in abstract.make_lms(config, platform).items()
  }
  section = config.phases[name]
  section.microbatches = 2
  if section.row_shapes:
    section.row_shapes = ((16, 64),)
  config.order = (name,)
  return config, lms, abstract.phase(config, lms, name)


def programs(config, lms, phase, mesh, **wanted):
  """The first program of each kind."""
  kinds = {}
  for program in compiled.programs(
    phase.name, config, lms, mesh, sample_sizes=dict(mesh.shape), **wanted
  ):
    kinds.setdefault(program.kind, program)
  return kinds


def on(mark, *cases):
  """Marks cases as those of a compiler, which may be missing."""
  return [pytest.param(*case, marks=mark) for case in cases]


@pytest.mark.parametrize(
  ('chip', 'family'),
  [
    *on(
      pytest.mark.libtpu, ('v5e', 'llama'), ('v6e', 'qwen2'), ('v5p', 'qwen3')
    ),
    *on(
      [pytest.mark.libtpu, pytest.mark.slow],
      ('v5e', 'qwen3_moe'),
      ('v6e', 'gemma3'),
      ('v5p', 'mistral'),
    ),
    *on(
      [pytest.mark.cuda, pytest.mark.slow],
      *(('h100', family) for family in FAMILIES),
      ('a100', 'qwen2'),
    ),
  ],
)
def test_the_programs_of_a_family_on_a_chip(chip, family):
  mesh = topology.make_mesh(chip, MESHES[chip])
  config, lms, phase = tiny(platform=CHIPS[chip].platform, **FAMILIES[family])
  kinds = programs(config, lms, phase, mesh)
  assert set(kinds) == {'update', 'insert', 'decode'}
  for kind, program in kinds.items():
    result = compiled.measure(program, lms)
    # Temporaries may be none: programs as small as this need fast memory only.
    assert not result.refusal and result.temporaries >= 0
    if CHIPS[chip].platform == 'tpu':  # that of GPUs does not say
      assert result.flops > 0 and result.bytes_accessed > 0
    # Arguments are the parameters, as the plan counts them, and the rest.
    assert result.arguments > abstract.device_bytes(
      abstract.params(lms[program.role], mesh)
    )
    loops = {
      'update': {'a micro-batch', 'an update'},
      'insert': {'a call'},
      'decode': {'a token', 'a call'},
    }[kind]
    found = {transfer.loop for transfer in result.transfers}
    assert found <= loops and ('a token' in found) == (kind == 'decode')
    if kind == 'update':
      state = abstract.device_bytes(memory.state(phase, lms, mesh))
      assert state <= result.arguments  # TPUs pad small arrays to tiles


@pytest.mark.libtpu
def test_an_update_of_long_packed_rows_has_the_kernel():
  """All settings are those of the platform: layers in a loop, splash."""
  mesh = topology.make_mesh('v6e', MESHES['v6e'])
  config, lms, phase = tiny(max_len=1024)
  config.phases.rl.row_shapes = ((16, 512),)
  [program] = programs(config, lms, phase, mesh, kinds=['update']).values()
  with compilation.without_cache():
    _, text = compiled.compile_with_text(program.lower(lms))
  found = hlo.read(text)
  # Forward, forward again, gradients of queries, gradients of keys.
  assert [k.target for k in found.kernels].count('tpu_custom_call') == 4
  assert {x.operands for x in found.products} == {('bf16', 'bf16')}


@pytest.mark.libtpu
def test_a_value_model_reads_a_batch():
  mesh = topology.make_mesh('v5e', MESHES['v5e'])
  config, lms, phase = tiny(ppo)
  [program] = programs(config, lms, phase, mesh, kinds=['score']).values()
  assert program.role == 'value'
  result = compiled.measure(program, lms)
  assert result.temporaries > 0 and not result.refusal
  assert {t.loop for t in result.transfers} <= {'a micro-batch', 'a batch'}


@pytest.mark.libtpu
def test_a_program_that_was_compiled_before_is_compiled_again():
  """jax's cache, which the tests have, has programs and not their text."""
  layout = sharding.replicated(topology.make_mesh('v5e', MESHES['v5e']))
  x = jax.ShapeDtypeStruct((8, 128), 'float32', sharding=layout)
  lowered = jax.jit(lambda x: x * 7).lower(x)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    for _ in range(2):
      _, text = compiled.compile_with_text(lowered)
      assert 'multiply' in text


@pytest.mark.libtpu
def test_decoding_is_planned_within_15_percent():
  """Layers are a loop, and arrays more than a chip's fast memory holds.

  A device's 1,728 columns of the MLP are stored before its rows.
  """
  mesh = topology.make_mesh('v6e', dict(data=4, tensor=2))
  config, lms, _ = tiny(
    num_layers=4, embed_dim=5120, mlp_dim=3456, num_heads=16, head_dim=64,
    layers='scanned', param_dtype='bfloat16', max_len=4096,
  )  # fmt: skip
  sizes = dict(lengths=(2048,), max_rows=64, max_new_tokens=1024)
  lms = {role: dataclasses.replace(lm, **sizes) for role, lm in lms.items()}
  *_, decode = compiled.programs(
    'rl', config, lms, mesh, sample_sizes=dict(mesh.shape), kinds=['decode']
  )
  result = compiled.measure(decode, lms)
  assert result.total > 150 * 2**20
  assert result.estimate == pytest.approx(result.total, rel=0.15)
  # Parameters, keys and values are exact but for tiles.
  held = result.planned['parameters'] + result.planned['keys and values']
  assert held == pytest.approx(result.arguments, rel=0.02)


@pytest.mark.slow
@pytest.mark.libtpu
def test_the_paper_is_planned_within_15_percent():
  """An update, inserts and decoding of the model's 48 layers on 64 chips."""
  config = refcritic.get_config('qwen2.5-14b-v5p')
  lms = abstract.make_lms(config, 'tpu')
  mesh = topology.make_mesh('v5p', dict(fsdp=16, tensor=4))
  phase = compiled.programs(
    'rl', config, lms, mesh, sample_sizes=dict(data=16, fsdp=1, tensor=4,
                                               sequence=1),
  )  # fmt: skip
  by_name = {program.name: program for program in phase}  # the longest
  for name in ('update', 'refine: insert', 'refine: insert behind prefixes',
               'refine: decode'):  # fmt: skip
    result = compiled.measure(by_name[name], lms)
    assert result.estimate == pytest.approx(result.total, rel=0.15), name


def text_of(*collectives):
  """A program with collectives only: kind, bytes, turns of its loops."""
  return hlo.Program(
    [
      hlo.Collective(
        kind, ('bf16',), num_bytes,
        tuple(hlo.Loop('body', '', n) for n in turns), '',
      )
      for kind, num_bytes, *turns in collectives
    ],
    [], [],
  )  # fmt: skip


def program(loop, lower=None):
  return compiled.Program(
    'decode',
    'solve: decode',
    'critic',
    '',
    {'parameters': 7},
    loop,
    'a call',
    lower,
  )


def test_collectives_are_added_up_by_loop():
  text = text_of(
    ('all-gather', 10, None, 48), ('all-gather', 30, None),
    ('all-reduce', 5, None, None), ('all-gather', 2),
  )  # fmt: skip
  assert compiled.transfers(text, program('a token')) == [
    compiled.Transfer('a token', 'all-gather', 10 * 48 + 30, 30),
    compiled.Transfer('a token', 'all-reduce', 5, 5),  # turns are not known
    compiled.Transfer('a call', 'all-gather', 2, 2),
  ]
  # Without a loop of its own, all that is in loops is a part of the whole.
  assert compiled.transfers(text, program('')) == [
    compiled.Transfer('a call', 'all-gather', 10 * 48 + 30 + 2, 30),
    compiled.Transfer('a call', 'all-reduce', 5, 5),
  ]


def test_further_layers_add_as_much_as_the_third():
  two = compiled.Compiled(
    'decode', 'x', 'critic', '', 10, 1, 20, 6.0, None, 2.0,
    [compiled.Transfer('a token', 'all-gather', 4, 2)], {'parameters': 7},
  )  # fmt: skip
  three = two._replace(
    arguments=13, temporaries=24, flops=8.0, seconds=3.0,
    transfers=[compiled.Transfer('a token', 'all-gather', 6, 2)],
  )  # fmt: skip
  whole = compiled._extrapolated(two, three, 48)
  assert (whole.arguments, whole.results, whole.temporaries) == (148, 1, 204)
  assert (whole.flops, whole.bytes_accessed) == (98, None)
  assert whole.transfers == [compiled.Transfer('a token', 'all-gather', 96, 2)]
  assert whole.seconds == 5 and whole.total == 353
  refused = three._replace(refusal='Used 20G of 16G hbm')
  assert compiled._extrapolated(two, refused, 48).refusal


def test_what_the_compiler_cannot_say_is_not_said():
  numbers = (None, 0, -1.0, float('nan'), float('inf'))
  assert {compiled._positive(number) for number in numbers} == {None}
  assert compiled._positive(3.0) == 3.0


def test_a_program_without_room_is_told():
  message = (
    'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in '
    'memory space hbm. Used 31.50G of 15.75G hbm. Exceeded hbm capacity by 15G.'
  )
  assert compiled._refusal(message) == 'Used 31.50G of 15.75G hbm'
  assert compiled._refusal('UNIMPLEMENTED: opt-barrier') is None


def test_tables_are_whole_in_80_columns(capsys):
  """No word and no number is cut; without collectives there is one table."""
  moved = compiled.Transfer('a micro-batch', 'collective-permute', 1e11, 1e10)
  result = compiled.Compiled(
    'insert', 'critique: insert behind prefixes', 'critic',
    '256 x 4 rows behind 1,024', 2**35, 1, 2**36, 1.2e15, 1.2e13, 61.0, [moved],
    {'parameters': 2**35, 'filling lanes': 3 * 2**35},
  )  # fmt: skip
  console = Console(width=80)
  compiled_table.show([result, result], 'rl', 2**37, console)
  text = capsys.readouterr().out
  *tables, _, _ = text.splitlines()  # explanations go on
  assert '…' not in text and max(map(len, tables)) <= 80
  for word in ('collective-permute', 'a micro-batch', 'planned', 'prefixes'):
    assert word in text
  for number in ('32.00', '64.00', '96.00', '128.00', '1,200.00', '12,000.00'):
    assert number in text
  assert '100,000.00' in text and '10,000.00' in text
  assert 'has 128.00 GiB' in text.replace('\n', '') and '75%' in text
  compiled_table.show([result._replace(transfers=[])], 'rl', 2**37, console)
  assert 'collectives' not in capsys.readouterr().out


def test_a_plan_that_is_off_by_more_than_15_percent_is_explained(capsys):
  result = compiled.Compiled(
    'decode', 'solve: decode', 'critic', '8 x 1 rows behind 512',
    2**30, 0, 2**30, None, None, 1.0, [], {'parameters': 2**30, 'a token': 0},
  )  # fmt: skip

  def explanations(times):
    planned = result.planned | {'a token': int((2 * times - 1) * 2**30)}
    programs = [result._replace(planned=planned)]
    compiled_table.show(programs, 'rl', 2**34, Console(width=80))
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if 'times as much' in line]

  assert explanations(1.14) == explanations(0.86) == []
  for times in (1.16, 0.84):
    assert explanations(times) == [
      f'rl, solve: decode, 8 x 1 rows behind 512: planned {times} times as '
      'much: compiled 1.00 GiB of arguments, 1.00 of temporaries; planned 1.00 '
      f'of parameters, {2 * times - 1:.2f} of a token'
    ]


def test_the_largest_program_tells_how_much_more_is_needed():
  """Beside what is held: 6 GiB are held, 4 planned, and 5 or 6 compiled."""
  planned = {'parameters': 6 * 2**30, 'all else': 4 * 2**30}
  updates = [
    compiled.Compiled(
      'update', 'update', 'critic', '', 6 * 2**30, 0, n * 2**30, None, None,
      1.0, [], planned,
    )
    for n in (3, 5)
  ]  # fmt: skip
  decode = updates[0]._replace(kind='decode', temporaries=6 * 2**30)
  insert = decode._replace(kind='insert', temporaries=2 * 2**30)
  scale_of = command.scale_of
  assert scale_of([*updates, decode, insert]) == (1.25, 1.5)
  assert scale_of(updates) == (1.25, None)
  assert scale_of([updates[0]._replace(kind='score')]) == (None, None)
  no_room = insert._replace(refusal='x')
  assert scale_of([*updates, decode, no_room]) == (1.25, None)
  refused = [updates[0]._replace(refusal='x'), updates[1]]
  assert scale_of([*refused, decode]) == (None, 1.5)


def run(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'critic_jax.plan', *arguments],
    cwd=ROOT, capture_output=True, text=True, timeout=300,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'COLUMNS': '160'},
  )  # fmt: skip


@pytest.mark.libtpu
def test_the_command_prints_what_the_compiler_says(tmp_path):
  path = tmp_path / 'plan.json'
  process = run(
    '--config=configs/ppo.py:tiny', '--chip=v5e', '--mesh=fsdp=8',
    '--compile', '--programs=score', f'--json={path}',
  )  # fmt: skip
  assert process.returncode == 0, process.stderr[-2000:]
  [phase] = [p for p in json.loads(path.read_text())['phases'] if p['compiled']]
  [result, *_] = phase['compiled']
  assert result['role'] == 'value' and result['total'] > result['temporaries']
  # Values are read without a collective: each device has what it needs.
  for text in ('as compiled', 'planned', 'score'):
    assert text in process.stdout
  assert 'compiling rl, score' in process.stdout
  assert not re.search('^I[0-9]', process.stderr, re.MULTILINE)


WITHOUT_COMPILERS = """
import importlib.util
from critic_jax.plan.__main__ import console_script
importlib.util.find_spec = lambda name: None
console_script()
"""


def test_a_chip_without_its_compiler_is_one_line(python, tmp_path):
  path = tmp_path / 'plan.py'
  path.write_text(WITHOUT_COMPILERS)
  process = python(
    path, '--config=configs/refcritic.py:tiny', '--chip=h100', '--compile',
    '--mesh=fsdp=12',
  )  # fmt: skip
  assert process.returncode == 1
  [line] = process.stderr.strip().splitlines()[-1:]
  assert line.startswith('error: chip: got h100 to compile for without its')
