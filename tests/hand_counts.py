"""A model small enough to count its flops and bytes by hand."""

# Small numbers, all different. D=6, F=10, L=2, H=4, Hkv=2, Dh=8, V=20.
MODEL = dict(
  vocab_size=20, embed_dim=6, mlp_dim=10, num_layers=2, num_heads=4,
  num_kv_heads=2, head_dim=8,
)  # fmt: skip
# A layer: q and o 2*6*4*8 = 384, k and v 2*6*2*8 = 192, MLP 3*6*10 = 180.
LAYERS = 2 * (384 + 192 + 180)
HEAD = 6 * 20
KEYS = 4 * 2 * 4 * 8  # 4 L H Dh: flops of a token's look at one key
KV = 2 * 2 * 2 * 8 * 4  # bytes of one token's keys and values
PARAMS = HEAD + LAYERS + 2 * 2 * 6 + 6
