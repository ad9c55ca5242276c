"""Named sizes of transformers, as plain data for `TransformerConfig`.

Published sizes are those of the models' `config.json`.
"""

_QWEN2 = dict(
  vocab_size=151936, rope_theta=1e6, qkv_bias=True, max_len=32768, head_dim=128
)
_QWEN2_14B = _QWEN2 | dict(
  vocab_size=152064, embed_dim=5120, mlp_dim=13824, num_layers=48,
  num_heads=40, num_kv_heads=8, tie_embeddings=False,
)  # fmt: skip

SIZES = {
  # For tests: seconds on a CPU.
  'nano': dict(
    embed_dim=32, mlp_dim=64, num_layers=2, num_heads=2, num_kv_heads=1,
    head_dim=16, qk_norm=True, max_len=512,
  ),
  # For the embedded world: minutes on a CPU.
  'tiny': dict(
    embed_dim=128, mlp_dim=384, num_layers=3, num_heads=4, num_kv_heads=1,
    head_dim=32, qk_norm=True, max_len=512,
  ),
  'smollm2-135m': dict(
    vocab_size=49152, embed_dim=576, mlp_dim=1536, num_layers=30, num_heads=9,
    num_kv_heads=3, head_dim=64, rope_theta=1e5, norm_eps=1e-5, max_len=8192,
  ),
  'qwen2.5-0.5b': _QWEN2 | dict(
    embed_dim=896, mlp_dim=4864, num_layers=24, num_heads=14, num_kv_heads=2,
    head_dim=64,
  ),
  'qwen2.5-1.5b': _QWEN2 | dict(
    embed_dim=1536, mlp_dim=8960, num_layers=28, num_heads=12, num_kv_heads=2,
  ),
  'qwen2.5-14b': _QWEN2_14B,
  # DeepSeek-R1-Distill-Qwen-14B.
  'r1-distill-qwen-14b': _QWEN2_14B | dict(norm_eps=1e-5, max_len=131072),
}  # fmt: skip
