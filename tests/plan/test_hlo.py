"""The reader of compiled programs, on small texts and on real ones."""

import textwrap

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from critic_jax.plan import hlo, topology

# As libtpu writes it: an asynchronous gather in three fusions of one channel.
TPU = textwrap.dedent("""\
  HloModule jit_f, is_scheduled=true, num_partitions=8

  %add.1 (x: f32[], y: f32[]) -> f32[] {
    %x = f32[]{:T(128)} parameter(0)
    %y = f32[]{:T(128)} parameter(1)
    ROOT %add.2 = f32[]{:T(128)} add(%x, %y)
  }

  %async_collective_fusion.1 (p.1: bf16[2,64]) -> (bf16[2,64], bf16[2,256]) {
    %p.1 = bf16[2,64]{1,0:T(8,128)(2,1)} parameter(0)
    %all-gather.1 = bf16[2,256]{1,0:T(8,128)(2,1)} all-gather(%p.1), channel_id=7, dimensions={1}, metadata={op_name="jit(f)/while/body/gather"}
    ROOT %custom-call.1 = (bf16[2,64]{1,0}, bf16[2,256]{1,0}) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
  }

  %async_collective_fusion.2 (p.2: bf16[2,64]) -> bf16[2,256] {
    %p.2 = bf16[2,64]{1,0:T(8,128)(2,1)} parameter(0)
    ROOT %all-gather.2 = bf16[2,256]{1,0:T(8,128)(2,1)} all-gather(%p.2), channel_id=7, dimensions={1}, metadata={op_name="jit(f)/while/body/gather"}
  }

  %all-reduce-scatter.3.clone (input: f32[64,8]) -> f32[8,8] {
    %input = f32[64,8]{1,0:T(8,128)} parameter(0)
    %all-reduce.5 = f32[64,8]{1,0:T(8,128)} all-reduce(%input), channel_id=11, to_apply=%add.1
    %partition-id.1 = u32[] partition-id()
    ROOT %dynamic-slice.1 = f32[8,8]{1,0:T(8,128)} dynamic-slice(%all-reduce.5, %partition-id.1), dynamic_slice_sizes={8,8}
  }

  %inner_body (q: (s32[], f32[8])) -> (s32[], f32[8]) {
    %q = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
    %i.1 = s32[]{:T(128)} get-tuple-element(%q), index=0
    %v = f32[8]{0:T(128)} get-tuple-element(%q), index=1
    %all-reduce.1 = f32[8]{0:T(128)} all-reduce(%v), channel_id=9, to_apply=%add.1, metadata={op_name="jit(f)/while/body/while/body/sum"}
    ROOT %t.1 = (s32[], f32[8]) tuple(%i.1, %all-reduce.1)
  }

  %inner_condition (c: (s32[], f32[8])) -> pred[] {
    %c = (s32[]{:T(128)}, /*index=1*/f32[8]{0:T(128)}) parameter(0)
    %i.2 = s32[]{:T(128)} get-tuple-element(%c), index=0
    %limit = s32[]{:T(128)} constant(48)
    ROOT %lt = pred[]{:T(512)} compare(%i.2, %limit), direction=LT
  }

  %body (b: (s32[], f32[8], bf16[2,64])) -> (s32[], f32[8], bf16[2,64]) {
    %b = (s32[], f32[8], bf16[2,64]) parameter(0)
    %g = bf16[2,64]{1,0} get-tuple-element(%b), index=2
    %fusion.1 = (bf16[2,64], bf16[2,256]) fusion(%g), kind=kCustom, calls=%async_collective_fusion.1
    %fusion.2 = bf16[2,256]{1,0} fusion(%g), kind=kOutput, calls=%async_collective_fusion.2
    %start = (s32[], f32[8]) tuple(%g, %g)
    %while.1 = (s32[]{:T(128)}, f32[8]{0:T(128)}) while(%start), condition=%inner_condition, body=%inner_body, metadata={op_name="jit(f)/while/body/while"}
    ROOT %convolution.1 = f32[2,2]{1,0:T(8,128)} convolution(%g, %fusion.2), dim_labels=bf_oi->bf, metadata={op_name="jit(f)/while/body/q/dot_general"}
  }

  %condition (d: (s32[], f32[8], bf16[2,64])) -> pred[] {
    %d = (s32[], f32[8], bf16[2,64]) parameter(0)
    ROOT %is_waiting = pred[] fusion(%d), kind=kLoop, calls=%add.1
  }

  ENTRY %main.1_spmd (a: f32[8]) -> f32[8] {
    %a = f32[8]{0:T(128)} parameter(0)
    %init = (s32[], f32[8], bf16[2,64]) tuple(%a, %a, %a)
    %while.2 = (s32[], f32[8], bf16[2,64]) while(%init), condition=%condition, body=%body, metadata={op_name="jit(f)/while"}
    %scattered = f32[8,8]{1,0:T(8,128)} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.3.clone, metadata={op_name="jit(f)/gradient"}
    %kernel = f32[8]{0:T(128)} custom-call(%a), custom_call_target="tpu_custom_call", metadata={op_name="jit(f)/splash"}
    ROOT %permute = f32[8]{0:T(128)} collective-permute(%a), channel_id=3, source_target_pairs={{0,1},{1,0}}
  }
""")  # fmt: skip  # noqa: E501

# As the CUDA plugin writes it: starts, ends, and products of cuBLAS.
GPU = textwrap.dedent("""\
  HloModule jit_g, is_scheduled=true, num_partitions=8

  %add (x: bf16[], y: bf16[]) -> bf16[] {
    %x = bf16[] parameter(0)
    %y = bf16[] parameter(1)
    ROOT %sum = bf16[] add(%x, %y)
  }

  %scattering (s: f32[64]) -> f32[8] {
    %s = f32[64]{0} parameter(0)
    ROOT %reduce-scatter.1 = f32[8]{0} reduce-scatter(%s), channel_id=4, dimensions={0}, to_apply=%add
  }

  %triton_gemm (l: bf16[16,32], r: bf16[32,8]) -> bf16[16,8] {
    %l = bf16[16,32]{1,0} parameter(0)
    %r = bf16[32,8]{1,0} parameter(1)
    ROOT %dot.1 = bf16[16,8]{1,0} dot(%l, %r), lhs_contracting_dims={1}, rhs_contracting_dims={0}, metadata={op_name="jit(g)/while/body/up/dot_general"}
  }

  %body (b: (s32[], bf16[16,32])) -> (s32[], bf16[16,32]) {
    %b = (s32[], bf16[16,32]{1,0}) parameter(0)
    %h = bf16[16,32]{1,0} get-tuple-element(%b), index=1
    %w = f8e4m3fn[32,4]{1,0} constant({...})
    %all-gather-start.1 = (bf16[16,4]{1,0}, bf16[16,32]{1,0}) all-gather-start(%h), channel_id=1, dimensions={1}, metadata={op_name="jit(g)/while/body/w"}
    %all-gather-done.1 = bf16[16,32]{1,0} all-gather-done(%all-gather-start.1), metadata={op_name="jit(g)/while/body/w"}
    %all-reduce-start.2 = bf16[16,32]{1,0} all-reduce-start(%h), channel_id=2, to_apply=%add
    %all-reduce-done.2 = bf16[16,32]{1,0} all-reduce-done(%all-reduce-start.2)
    %fusion.3 = bf16[16,8]{1,0} fusion(%h, %w), kind=kCustom, calls=%triton_gemm
    %gemm = (f32[16,32]{1,0}, s8[4194304]{0}) custom-call(%h, %all-gather-done.1), custom_call_target="__cublas$lt$matmul", metadata={op_name="jit(g)/while/body/down/dot_general"}
    ROOT %t = (s32[], bf16[16,32]{1,0}) tuple(%h, %h)
  }

  %condition (c: (s32[], bf16[16,32])) -> pred[] {
    %c = (s32[], bf16[16,32]{1,0}) parameter(0)
    ROOT %always = pred[] constant(true)
  }

  ENTRY %main (a: f32[64]) -> f32[8] {
    %a = f32[64]{0} parameter(0)
    %rs-start = ((f32[64]{0}), f32[8]{0}) async-start(%a), calls=%scattering
    %rs-done = f32[8]{0} async-done(%rs-start), calls=%scattering
    %while.1 = (s32[], bf16[16,32]{1,0}) while(%a), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"24"}}
    ROOT %attention = f32[8]{0} custom-call(%a), custom_call_target="__cudnn$fmhaSoftmax"
  }
""")  # fmt: skip  # noqa: E501


def test_a_text_of_a_tpu():
  program = hlo.read(TPU)
  outer = hlo.Loop('body', 'jit(f)/while', None)
  inner = hlo.Loop('inner_body', 'jit(f)/while/body/while', 48)
  assert program.collectives == [
    hlo.Collective(
      'all-gather', ('bf16',), 1024, (outer,), 'jit(f)/while/body/gather'
    ),
    hlo.Collective(
      'all-reduce', ('f32',), 32, (outer, inner),
      'jit(f)/while/body/while/body/sum',
    ),
    hlo.Collective('reduce-scatter', ('f32',), 256, (), 'jit(f)/gradient'),
    hlo.Collective('collective-permute', ('f32',), 32, (), ''),
  ]  # fmt: skip
  assert program.products == [
    hlo.Product(
      ('bf16', 'bf16'), 'f32', (outer,), 'jit(f)/while/body/q/dot_general'
    )
  ]
  kernels = [k for k in program.kernels if k.target == 'tpu_custom_call']
  assert kernels == [hlo.Kernel('tpu_custom_call', (), 'jit(f)/splash')]


def test_a_text_of_a_gpu():
  program = hlo.read(GPU)
  loop = hlo.Loop('body', '', 24)
  assert [(c.kind, c.num_bytes, c.loops) for c in program.collectives] == [
    ('reduce-scatter', 32, ()),
    ('all-gather', 1024, (loop,)),
    ('all-reduce', 1024, (loop,)),
  ]
  assert program.products == [
    hlo.Product(
      ('bf16', 'bf16'), 'bf16', (loop,), 'jit(g)/while/body/up/dot_general'
    ),
    hlo.Product(
      ('bf16', 'bf16'), 'f32', (loop,), 'jit(g)/while/body/down/dot_general'
    ),
  ]
  assert [kernel.target for kernel in program.kernels] == [
    '__cudnn$fmhaSoftmax'
  ]


@pytest.mark.parametrize(
  ('result', 'num_bytes'),
  [
    ('f32[]', 4), ('pred[3]{0}', 3), ('s4[5]', 3), ('f8e4m3fn[7]', 7),
    ('c64[2]', 16), ('(u32[]{:S(2)}, /*index=5*/bf16[2,3]{1,0:T(8,128)})', 16),
    ('f64[<=4,2]', 64), ('token[]', 0), ('()', 0),
  ],
)  # fmt: skip
def test_bytes_of_a_result(result, num_bytes):
  assert hlo.result_bytes(result) == num_bytes


def test_what_is_no_program_is_told():
  with pytest.raises(ValueError, match="HLO: got a text without an entry: 'x'"):
    hlo.read('x')


def compiled(chip, sizes, dtype):
  """A sum over four layers of [64, 64], split by fsdp, and its program."""
  mesh = topology.make_mesh(chip, sizes)

  def shape(*size, spec, dtype=dtype):
    layout = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.ShapeDtypeStruct(size, dtype, sharding=layout)

  def f(x, weights):
    def layer(x, w):
      w = jax.lax.with_sharding_constraint(
        w, NamedSharding(mesh, PartitionSpec())
      )
      return jnp.tanh(x @ w), None

    return jax.lax.scan(layer, x, weights)[0]

  with jax.set_mesh(mesh):
    return jax.jit(f).lower(
      shape(256, 512, spec=('fsdp',)),
      shape(4, 512, 512, spec=(None, 'fsdp')),
    ).compile()  # fmt: skip


@pytest.mark.libtpu
@pytest.mark.parametrize('dtype', ('bfloat16', 'float32'))
def test_weights_that_a_loop_gathers_are_found(dtype):
  program = hlo.read(compiled('v5e', dict(fsdp=8), dtype).as_text())
  [gather] = [c for c in program.collectives if c.kind == 'all-gather']
  # TPUs multiply float32 in one pass of bfloat16, and then gather those.
  assert gather.num_bytes == 512 * 512 * 2 and gather.dtypes == ('bf16',)
  [loop] = gather.loops
  assert loop.trip_count == 4 and loop.op_name.startswith('jit(f)')
  [product] = program.products
  assert product.loops == (loop,) and 'dot_general' in product.op_name
