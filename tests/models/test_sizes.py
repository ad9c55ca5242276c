"""Named sizes against their published numbers of parameters."""

from critic_jax.models import cost, sizes


def qwen_14b():
  """Counts the parameters of Qwen2.5-14B, matrix by matrix.

  Returns:
    All matrices, all biases, and all norms.
  """
  width, heads, kv_heads, head_dim, mlp = 5120, 40, 8, 128, 13824
  attention = width * head_dim * (heads + kv_heads + kv_heads + heads)
  matrices = 48 * (attention + 3 * width * mlp) + 2 * 152064 * width
  biases = 48 * (heads + kv_heads + kv_heads) * head_dim
  norms = (48 * 2 + 1) * width
  return matrices, biases, norms


def test_qwen_14b():
  """The model card says 14.7 billion."""
  assert sum(qwen_14b()) == 14_770_033_664
  for name in ('qwen2.5-14b', 'r1-distill-qwen-14b'):
    assert cost.num_params(sizes.SIZES[name]) == 14_770_033_664


def test_the_distilled_model_differs_in_two_settings():
  qwen, distilled = (
    dict(sizes.SIZES[name]) for name in ('qwen2.5-14b', 'r1-distill-qwen-14b')
  )
  assert distilled.pop('norm_eps') == 1e-5
  assert (qwen.pop('max_len'), distilled.pop('max_len')) == (32768, 131072)
  assert qwen == distilled
