"""Named sizes of transformers, as plain data for `TransformerConfig`.

Published sizes are those of the models' `config.json`: of the variant that
follows instructions, where the base differs in the length of its context or the
epsilon of its norms.
"""

from critic_jax.models.config import LinearScaling, RopeScaling


def _qwen(embed_dim, mlp_dim, num_layers, num_heads, num_kv_heads, **fields):
  """Returns the fields of a Qwen model: its sizes, and what all have."""
  shared = dict(
    vocab_size=151936, rope_theta=1e6, max_len=32768, head_dim=128,
    tie_embeddings=False,
  )  # fmt: skip
  sizes = dict(
    embed_dim=embed_dim, mlp_dim=mlp_dim, num_layers=num_layers,
    num_heads=num_heads, num_kv_heads=num_kv_heads,
  )  # fmt: skip
  return shared | sizes | fields


_QWEN2 = dict(qkv_bias=True)
_QWEN2_TIED = _QWEN2 | dict(tie_embeddings=True)
_QWEN2_LARGE = _QWEN2 | dict(vocab_size=152064)
_QWEN3 = dict(qk_norm=True, max_len=40960)
_QWEN3_TIED = _QWEN3 | dict(tie_embeddings=True)

_LLAMA3 = dict(
  vocab_size=128256, num_kv_heads=8, head_dim=128, rope_theta=5e5,
  norm_eps=1e-5, max_len=131072, tie_embeddings=False,
)  # fmt: skip


def _llama3_scaling(factor):
  return dict(rope_scaling=RopeScaling(factor, 1.0, 4.0, 8192))


_LLAMA3_8B = _LLAMA3 | dict(
  embed_dim=4096, mlp_dim=14336, num_layers=32, num_heads=32
)
_LLAMA31_8B = _LLAMA3_8B | _llama3_scaling(8.0)
_LLAMA31_70B = _LLAMA3 | _llama3_scaling(8.0) | dict(
  embed_dim=8192, mlp_dim=28672, num_layers=80, num_heads=64
)  # fmt: skip

_SMOLLM2 = dict(
  vocab_size=49152, head_dim=64, rope_theta=1e5, norm_eps=1e-5, max_len=8192
)

_GEMMA3 = dict(
  vocab_size=262208, head_dim=256, rope_theta=1e6, local_rope_theta=1e4,
  rope_scaling=LinearScaling(8.0), sliding_window=1024, global_every=6,
  norm_offset=1.0, qk_norm=True, post_norms=True, scale_embeddings=True,
  activation='gelu_tanh', max_len=131072,
)  # fmt: skip

_QWEN2_7B = _qwen(3584, 18944, 28, 28, 4, **_QWEN2_LARGE)
_QWEN2_14B = _qwen(5120, 13824, 48, 40, 8, **_QWEN2_LARGE)
_QWEN2_32B = _qwen(5120, 27648, 64, 40, 8, **_QWEN2_LARGE)
# The distilled models of 1.5 and 7 billion parameters come from Qwen2.5-Math.
_R1_MATH = dict(max_len=131072, rope_theta=1e4, tie_embeddings=False)
_R1_LARGE = dict(max_len=131072, norm_eps=1e-5)

SIZES = {
  # For tests: seconds on a CPU.
  'nano': dict(
    embed_dim=32, mlp_dim=64, num_layers=1, num_heads=2, num_kv_heads=1,
    head_dim=16, qk_norm=True, max_len=512,
  ),
  # For the embedded world: minutes on a CPU.
  'mini': dict(
    embed_dim=64, mlp_dim=192, num_layers=2, num_heads=4, num_kv_heads=1,
    head_dim=16, qk_norm=True, max_len=512,
  ),
  'tiny': dict(
    embed_dim=128, mlp_dim=384, num_layers=3, num_heads=4, num_kv_heads=1,
    head_dim=32, qk_norm=True, max_len=512,
  ),
  'small': dict(
    embed_dim=192, mlp_dim=576, num_layers=4, num_heads=6, num_kv_heads=2,
    head_dim=32, qk_norm=True, max_len=512,
  ),
  'smollm2-135m': _SMOLLM2 | dict(
    embed_dim=576, mlp_dim=1536, num_layers=30, num_heads=9, num_kv_heads=3,
  ),
  'smollm2-360m': _SMOLLM2 | dict(
    embed_dim=960, mlp_dim=2560, num_layers=32, num_heads=15, num_kv_heads=5,
  ),
  'smollm2-1.7b': _SMOLLM2 | dict(
    embed_dim=2048, mlp_dim=8192, num_layers=24, num_heads=32, num_kv_heads=32,
    rope_theta=1.3e5,
  ),
  'qwen2.5-0.5b': _qwen(896, 4864, 24, 14, 2, head_dim=64, **_QWEN2_TIED),
  'qwen2.5-1.5b': _qwen(1536, 8960, 28, 12, 2, **_QWEN2_TIED),
  'qwen2.5-3b': _qwen(2048, 11008, 36, 16, 2, **_QWEN2_TIED),
  'qwen2.5-7b': _QWEN2_7B,
  'qwen2.5-14b': _QWEN2_14B,
  'qwen2.5-32b': _QWEN2_32B,
  'qwen2.5-72b': _qwen(8192, 29568, 80, 64, 8, **_QWEN2_LARGE),
  'qwen3-0.6b': _qwen(1024, 3072, 28, 16, 8, **_QWEN3_TIED),
  'qwen3-1.7b': _qwen(2048, 6144, 28, 16, 8, **_QWEN3_TIED),
  'qwen3-4b': _qwen(2560, 9728, 36, 32, 8, **_QWEN3_TIED),
  'qwen3-8b': _qwen(4096, 12288, 36, 32, 8, **_QWEN3),
  'qwen3-14b': _qwen(5120, 17408, 40, 40, 8, **_QWEN3),
  'qwen3-32b': _qwen(5120, 25600, 64, 64, 8, **_QWEN3),
  'qwen3-30b-a3b': _qwen(2048, 768, 48, 32, 4, **_QWEN3) | dict(
    num_experts=128, experts_per_token=8, normalize_experts=True,
  ),
  'gemma-3-1b': _GEMMA3 | dict(
    vocab_size=262144, embed_dim=1152, mlp_dim=6912, num_layers=26, num_heads=4,
    num_kv_heads=1, rope_scaling=None, sliding_window=512, max_len=32768,
  ),
  'gemma-3-4b': _GEMMA3 | dict(
    embed_dim=2560, mlp_dim=10240, num_layers=34, num_heads=8, num_kv_heads=4,
  ),
  'gemma-3-12b': _GEMMA3 | dict(
    embed_dim=3840, mlp_dim=15360, num_layers=48, num_heads=16, num_kv_heads=8,
  ),
  'gemma-3-27b': _GEMMA3 | dict(
    embed_dim=5376, mlp_dim=21504, num_layers=62, num_heads=32, num_kv_heads=16,
    head_dim=128, query_scale=168**-0.5,
  ),
  'mistral-7b': dict(  # of version 0.3, which has no windows
    vocab_size=32768, embed_dim=4096, mlp_dim=14336, num_layers=32,
    num_heads=32, num_kv_heads=8, head_dim=128, rope_theta=1e6, norm_eps=1e-5,
    max_len=32768, tie_embeddings=False,
  ),
  'llama-3-8b': _LLAMA3_8B | dict(max_len=8192),
  'llama-3.1-8b': _LLAMA31_8B,
  'llama-3.1-70b': _LLAMA31_70B,
  'llama-3.2-1b': _LLAMA3 | _llama3_scaling(32.0) | dict(
    embed_dim=2048, mlp_dim=8192, num_layers=16, num_heads=32, head_dim=64,
    tie_embeddings=True,
  ),
  'llama-3.2-3b': _LLAMA3 | _llama3_scaling(32.0) | dict(
    embed_dim=3072, mlp_dim=8192, num_layers=28, num_heads=24,
    tie_embeddings=True,
  ),
  'llama-3.3-70b': _LLAMA31_70B,
  # DeepSeek-R1-Distill-...
  'r1-distill-qwen-1.5b': _qwen(1536, 8960, 28, 12, 2, **_QWEN2 | _R1_MATH),
  'r1-distill-qwen-7b': _QWEN2_7B | _R1_MATH,
  'r1-distill-qwen-14b': _QWEN2_14B | _R1_LARGE,
  'r1-distill-qwen-32b': _QWEN2_32B | _R1_LARGE,
  'r1-distill-llama-8b': _LLAMA31_8B,
  'r1-distill-llama-70b': _LLAMA31_70B,
}  # fmt: skip
