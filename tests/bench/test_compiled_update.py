"""Updates that are compiled for TPUs, and what is counted of them."""

import importlib.util
import json
import sys

import jax
import jax.numpy as jnp
import pytest

from critic_jax.bench import (
  compiled_update,
  environments,
  jaxpr_flops,
  traffic,
  work,
)
from critic_jax.bench.__main__ import OURS, main, parse
from critic_jax.bench.connection import System
from critic_jax.plan import topology
from critic_jax.terminal import Console

A = jnp.zeros((2, 3))
B = jnp.zeros((3, 4))
PRODUCT = 2 * 2 * 3 * 4  # flops of A @ B


def fivefold(x):
  return jnp.tile(x, (5, 1, 1))


def count(function, *args):
  return jaxpr_flops.count(jax.make_jaxpr(function)(*args))


def test_flops_of_a_product():
  assert count(jnp.dot, A, B) == PRODUCT
  assert count(jax.vmap(jnp.dot), *map(fivefold, (A, B))) == 5 * PRODUCT
  assert count(lambda a: jnp.sin(a) + 1, A) == 0


def test_flops_of_loops_branches_and_what_is_computed_again():
  def loop(a, b):
    return jax.lax.scan(lambda sum, _: (sum + a @ b, None), a @ b, length=7)

  assert count(loop, A, B) == 8 * PRODUCT

  def branch(a, b):
    return jax.lax.cond(
      a[0, 0] > 0, lambda: a @ b, lambda: 2 * (a @ b) @ b.T @ b
    )

  assert count(branch, A, B) == 3 * PRODUCT

  def loss(a, b):
    return jnp.sum(jnp.sin(jnp.sin(a @ b) @ b.T))

  gradient = jax.grad(loss, (0, 1))
  assert count(gradient, A, B) == 6 * PRODUCT
  # The last product's result is needed by its own gradient, and comes again.
  again = jax.grad(jax.checkpoint(loss), (0, 1))
  assert count(again, A, B) == 8 * PRODUCT


def test_flops_of_a_loop_that_turns_as_often_as_the_block_asks():
  def blocks(a, b):
    def block(sum, number):
      add = jax.lax.fori_loop(0, number, lambda i, x: x + a @ b, sum)
      return add, None

    return jax.lax.scan(block, a @ b, jnp.arange(1, 8))[0]

  assert count(blocks, A, B) == (1 + 7 * 8 / 2) * PRODUCT


def test_flops_of_all_devices():
  mesh = jax.make_mesh((1,), ('x',), devices=jax.devices()[:1])
  spec = jax.sharding.PartitionSpec()
  split = jax.shard_map(
    jnp.dot, mesh=mesh, in_specs=(spec, spec), out_specs=spec
  )
  assert count(split, A, B) == PRODUCT


HLO = """HloModule m

%body (p: (s32[], f32[256], f32[8,256])) -> (s32[], f32[256], f32[8,256]) {
  %p = (s32[], f32[256], f32[8,256]) parameter(0)
  %i = s32[] get-tuple-element((s32[], f32[256], f32[8,256]) %p), index=0
  %x = f32[256] get-tuple-element((s32[], f32[256], f32[8,256]) %p), index=1
  %all = f32[8,256] get-tuple-element((s32[], f32[256], f32[8,256]) %p), index=2
  %next = s32[] fusion(s32[] %i), kind=kLoop, calls=%one
  %y = f32[256] fusion(f32[8,256] %all, s32[] %i), kind=kLoop, calls=%row
  ROOT %t = (s32[], f32[256], f32[8,256]) tuple(%next, %y, %all)
}

%one (a: s32[]) -> s32[] {
  %a = s32[] parameter(0)
  ROOT %b = s32[] negate(s32[] %a)
}

%row (q: f32[8,256], j: s32[]) -> f32[256] {
  %q = f32[8,256] parameter(0)
  %j = s32[] parameter(1)
  %z = s32[] constant(0)
  %s = f32[1,256] dynamic-slice(f32[8,256] %q, s32[] %j, s32[] %z)
  ROOT %r = f32[256] bitcast(f32[1,256] %s)
}

%more (p.1: (s32[], f32[256], f32[8,256])) -> pred[] {
  %p.1 = (s32[], f32[256], f32[8,256]) parameter(0)
  %n = s32[] constant(5)
  %c = s32[] get-tuple-element((s32[], f32[256], f32[8,256]) %p.1), index=0
  ROOT %lt = pred[] compare(s32[] %c, s32[] %n), direction=LT
}

ENTRY %main (x.1: f32[256], all.1: f32[8,256]) -> f32[256] {
  %x.1 = f32[256]{0:T(256)} parameter(0)
  %all.1 = f32[8,256]{1,0:T(8,128)} parameter(1)
  %near = f32[256]{0:T(256)S(1)} negate(f32[256]{0:T(256)} %x.1)
  %far = f32[256]{0:T(256)} negate(f32[256]{0:T(256)S(1)} %near)
  %view = f32[0] custom-call(), custom_call_target="ConcatBitcast"
  %fused = f32[0] custom-call(), custom_call_target="tpu_custom_call"
  %zero = s32[] constant(0)
  %init = (s32[], f32[256], f32[8,256]) tuple(%zero, %far, %all.1)
  %end = (s32[], f32[256], f32[8,256]) while(%init), LOOP
  ROOT %out = f32[256] get-tuple-element(%end), index=1
}
""".replace('LOOP', 'condition=%more, body=%body')


NESTED = """%same (u: f32[8,256]) -> f32[8,256] {
  %u = f32[8,256] parameter(0)
  ROOT %e = f32[8,256] bitcast(f32[8,256] %u)
}

%outer (v: f32[8,256], k: s32[]) -> f32[256] {
  %v = f32[8,256] parameter(0)
  %k = s32[] parameter(1)
  %view = f32[8,256] fusion(f32[8,256] %v), kind=kLoop, calls=%same
  ROOT %w = f32[256] fusion(f32[8,256] %view, s32[] %k), kind=kLoop, calls=%row
}

ENTRY"""


def test_traffic_by_hand():
  # Each `negate` reads or writes main memory once; a turn reads a row, writes
  # it, reads its index twice and writes it once.
  turn = 1024 + 1024 + 3 * 4
  assert traffic.count(HLO) == 2 * 1024 + 5 * turn
  # The same behind fusions inside a fusion, as TPUs have them.
  nested = HLO.replace('calls=%row', 'calls=%outer').replace('ENTRY', NESTED)
  assert traffic.count(nested) == traffic.count(HLO)


def test_traffic_of_a_loop_of_unknown_turns():
  text = HLO.replace('direction=LT', 'direction=NE')
  assert traffic.count(text) == 2 * 1024 + 2 * 1024 + 3 * 4
  # A scan of 5 that has it inside.
  outer = (
    HLO.replace('ENTRY %main', '%inner')
    .replace('condition=%more', 'condition=%other')
    .replace('%more (', '%other (')
    .replace('direction=LT', 'direction=NE')
  )
  lines = """
%body.2 (p.2: (s32[], f32[256], f32[8,256])) -> (s32[], f32[256], f32[8,256]) {
  %p.2 = (s32[], f32[256], f32[8,256]) parameter(0)
  ROOT %l = (s32[], f32[256], f32[8,256]) while(%p.2), condition=%other, BODY
}

ENTRY %main (x.2: (s32[], f32[256], f32[8,256])) -> (s32[], f32[256]) {
  %x.2 = (s32[], f32[256], f32[8,256]) parameter(0)
  ROOT %w = (s32[], f32[256]) while(%x.2), condition=%more, body=%body.2
}
""".replace('BODY', 'body=%body')
  more = HLO[HLO.index('%more (') : HLO.index('ENTRY')]
  text = outer + more + lines
  assert traffic.count(text) == 5 * 3 * (2 * 1024 + 3 * 4)


@pytest.mark.parametrize('turns', [1, 6])
def test_traffic_is_the_compiler_s_but_for_loops(turns):
  def function(x, y):
    def turn(sum, _):
      return jnp.tanh(sum @ y), None

    return jax.lax.scan(turn, x, length=turns, unroll=1)[0]

  x = jax.ShapeDtypeStruct((256, 256), jnp.float32)
  compiled = jax.jit(function).lower(x, x).compile()
  counted = traffic.count(compiled.as_text())
  one_turn = compiled.cost_analysis()['bytes accessed']
  assert counted == pytest.approx(turns * one_turn, rel=0.35)


WORKER = """
import pathlib
def lower(setup):
  assert setup['mesh'] == {'fsdp': 8} and setup['topology'] == 'v5e:2x4'
  import sys; worker = sys.modules['__main__']
  def facts(lowered, hlo):
    pathlib.Path(hlo).write_text(TEXT)
    return FACTS
  worker.compiled_facts = facts
  return {}
"""


@pytest.fixture
def system(tmp_path, monkeypatch):
  monkeypatch.setattr(topology, 'check_compiler', lambda chip: None)

  def make(name, temporaries):
    facts = {
      'versions': {name: '1.2'}, 'all_flops': 16e12,
      'arguments': 2**20, 'temporaries': temporaries, 'compile_seconds': 3.0,
    }  # fmt: skip
    path = tmp_path / f'{name}.py'
    path.write_text(f'TEXT, FACTS = {HLO!r}, {facts!r}\n{WORKER}')
    return System(name, sys.executable, path)

  return make


def test_systems_side_by_side(system, tmp_path, capsys):
  broken = tmp_path / 'broken.py'
  broken.write_text('def lower(setup):\n  raise RuntimeError("no such layer")')
  result = compiled_update.run(
    work.WORKS['update'],
    work.make_model('tiny'),
    'bfloat16',
    'v5e',
    [
      system('ours', 2 * 2**20),
      system('peer', 5 * 2**20),
      System('broken', sys.executable, broken),
    ],
    deadline_s=60.0,
  )
  assert result['systems']['peer']['moved'] == traffic.count(HLO)
  assert result['systems']['peer']['kernels'] == 1
  [error] = compiled_update.errors(result)
  assert error == 'broken: RuntimeError: no such layer'
  Console(width=140).print(compiled_update.table(result))
  lines = capsys.readouterr().out.splitlines()
  [ours] = [line for line in lines if 'ours 1.2' in line]
  [peer] = [line for line in lines if 'peer 1.2' in line]
  assert ours.split()[2] == '2.000' and '[' not in ours
  assert '5 [2.50]' in peer and '1 [1.00]' in peer
  assert any('broken' in line and 'failed' in line for line in lines)
  compiled_update.write(tmp_path / 'x' / 'a.json', result)
  written = json.loads((tmp_path / 'x' / 'a.json').read_text())
  assert written['systems'] == result['systems']


@pytest.mark.parametrize(
  ('flags', 'says'),
  [
    (['--compile', '--compare', 'trl'], "got ['trl'] with --compile"),
    (['--compare', 'maxtext'], 'got maxtext, which only compiles'),
    (['--compile', '--chip', 'h100'], 'invalid choice'),
    (['--compile', '--work', 'decode8'], '--work: does not go with --compile'),
    (['--compile', '--curves', 'x.png'], '--compile: does not go with'),
    (['--compile', '--repeats', '3'], '--repeats: does not go'),
    (['--chip', 'v5e'], '--chip: got v5e without --compile'),
    (['--environments', 'x'], '--environments: got x without --compare'),
    (['--curves', 'x.png', '--rows', '2'], '--rows: does not go with --curves'),
  ],
)
def test_flags_that_do_not_go_together(flags, says, capsys):
  with pytest.raises(SystemExit):
    parse(flags)
  assert says in capsys.readouterr().err


def test_a_missing_compiler_is_said_at_once(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(SystemExit, match='error: chip: got v5e to compile for'):
    main(['--compile'])


def test_an_environment_may_need_a_newer_python(tmp_path, monkeypatch):
  monkeypatch.setattr(environments, 'PEERS', tmp_path)
  newer = sys.version_info.minor + 1
  (tmp_path / 'peer.txt').write_text(f'# python >= 3.{newer}\nx==1\n')
  commands = []

  def run(command, **settings):
    commands.append(command)
    if command[0].endswith(f'python3.{newer}'):
      raise OSError('a shim')

  monkeypatch.setattr(environments.shutil, 'which', lambda name: f'/bin/{name}')
  environments.python('peer', tmp_path / 'envs', run, lambda line: None)
  assert [command[0] for command in commands[:3]] == [
    f'/bin/python3.{newer}', *[f'/bin/python3.{newer + 1}'] * 2
  ]  # fmt: skip
  monkeypatch.setattr(environments.shutil, 'which', lambda name: None)
  with pytest.raises(ValueError, match=f'expected 3.{newer} or newer'):
    environments.python('peer', tmp_path / 'envs', run, lambda line: None)


@pytest.mark.libtpu
def test_our_update_compiles_for_a_tpu():
  result = compiled_update.run(
    work.Work('update', rows=8, prompt=32),
    work.make_model('nano') | {'vocab_size': 64, 'num_layers': 1},
    'bfloat16',
    'v5e',
    [OURS],
    deadline_s=120.0,
  )
  assert not compiled_update.errors(result)
  [facts] = result['systems'].values()
  assert facts['all_flops'] > 0 and facts['moved'] > facts['arguments']
  # Temporaries may be none: so small a program needs fast memory only.
  assert facts['temporaries'] >= 0 and facts['collectives'] > 0
