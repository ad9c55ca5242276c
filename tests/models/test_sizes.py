"""Named sizes against their published numbers of parameters."""

import pytest

from critic_jax.models import cost, sizes
from critic_jax.models.config import TransformerConfig
from critic_jax.pretrained import hf_config

# Of the files of weights. Where embeddings are tied they count once, also for
# those of Qwen3 whose files have them twice.
PUBLISHED = {
  'smollm2-135m': 134_515_008,
  'smollm2-360m': 361_821_120,
  'smollm2-1.7b': 1_711_376_384,
  'qwen2.5-0.5b': 494_032_768,
  'qwen2.5-1.5b': 1_543_714_304,
  'qwen2.5-3b': 3_085_938_688,
  'qwen2.5-7b': 7_615_616_512,
  'qwen2.5-14b': 14_770_033_664,
  'qwen2.5-32b': 32_763_876_352,
  'qwen2.5-72b': 72_706_203_648,
  'qwen3-0.6b': 596_049_920,
  'qwen3-1.7b': 1_720_574_976,
  'qwen3-4b': 4_022_468_096,
  'qwen3-8b': 8_190_735_360,
  'qwen3-14b': 14_768_307_200,
  'qwen3-32b': 32_762_123_264,
  'qwen3-30b-a3b': 30_532_122_624,
  'gemma-3-1b': 999_885_952,
  'gemma-3-4b': 3_880_263_168,  # of the part that reads texts, as the next two
  'gemma-3-12b': 11_766_034_176,
  'gemma-3-27b': 27_009_346_304,
  'mistral-7b': 7_248_023_552,
  'llama-3-8b': 8_030_261_248,
  'llama-3.1-8b': 8_030_261_248,
  'llama-3.1-70b': 70_553_706_496,
  'llama-3.2-1b': 1_235_814_400,
  'llama-3.2-3b': 3_212_749_824,
  'llama-3.3-70b': 70_553_706_496,
  'r1-distill-qwen-1.5b': 1_777_088_000,
  'r1-distill-qwen-7b': 7_615_616_512,
  'r1-distill-qwen-14b': 14_770_033_664,
  'r1-distill-qwen-32b': 32_763_876_352,
  'r1-distill-llama-8b': 8_030_261_248,
  'r1-distill-llama-70b': 70_553_706_496,
}
# Published config.json, without what a model's shape does not need.
CONFIG_FILES = {
  'llama-3.2-3b': dict(
    architectures=['LlamaForCausalLM'], vocab_size=128256, hidden_size=3072,
    head_dim=128,
    intermediate_size=8192, max_position_embeddings=131072,
    num_attention_heads=24, num_hidden_layers=28, num_key_value_heads=8,
    rms_norm_eps=1e-5, rope_theta=500000.0, tie_word_embeddings=True,
    hidden_act='silu',
    rope_scaling=dict(
      factor=32.0, high_freq_factor=4.0, low_freq_factor=1.0,
      original_max_position_embeddings=8192, rope_type='llama3',
    ),
  ),
  'smollm2-135m': dict(
    architectures=['LlamaForCausalLM'], vocab_size=49152, hidden_size=576,
    intermediate_size=1536, max_position_embeddings=8192,
    num_attention_heads=9, num_hidden_layers=30, num_key_value_heads=3,
    rms_norm_eps=1e-5, rope_theta=100000, tie_word_embeddings=True,
    hidden_act='silu',
  ),
  'qwen2.5-7b': dict(
    architectures=['Qwen2ForCausalLM'], vocab_size=152064, hidden_size=3584,
    intermediate_size=18944, max_position_embeddings=32768,
    num_attention_heads=28, num_hidden_layers=28, num_key_value_heads=4,
    rms_norm_eps=1e-6, rope_theta=1000000.0, tie_word_embeddings=False,
    hidden_act='silu', use_sliding_window=False,
  ),
  'qwen3-4b': dict(
    architectures=['Qwen3ForCausalLM'], vocab_size=151936, hidden_size=2560,
    head_dim=128,
    intermediate_size=9728, max_position_embeddings=40960,
    num_attention_heads=32, num_hidden_layers=36, num_key_value_heads=8,
    rms_norm_eps=1e-6, rope_theta=1000000, tie_word_embeddings=True,
    hidden_act='silu', attention_bias=False,
  ),
  'qwen3-30b-a3b': dict(
    architectures=['Qwen3MoeForCausalLM'], vocab_size=151936, hidden_size=2048,
    head_dim=128, intermediate_size=6144, moe_intermediate_size=768,
    num_experts=128, num_experts_per_tok=8, norm_topk_prob=True,
    decoder_sparse_step=1, mlp_only_layers=[], max_position_embeddings=40960,
    num_attention_heads=32, num_hidden_layers=48, num_key_value_heads=4,
    rms_norm_eps=1e-6, rope_theta=1000000.0, tie_word_embeddings=False,
    hidden_act='silu', attention_bias=False, use_sliding_window=False,
    max_window_layers=48, sliding_window=None,
  ),
  'gemma-3-4b': dict(
    architectures=['Gemma3ForConditionalGeneration'],
    text_config=dict(
      hidden_size=2560, intermediate_size=10240, model_type='gemma3_text',
      num_hidden_layers=34, sliding_window=1024,
      rope_scaling=dict(factor=8.0, rope_type='linear'),
    ),
  ),
  'gemma-3-1b': dict(
    architectures=['Gemma3ForCausalLM'], vocab_size=262144, hidden_size=1152,
    intermediate_size=6912, num_hidden_layers=26, num_attention_heads=4,
    num_key_value_heads=1, head_dim=256, query_pre_attn_scalar=256,
    max_position_embeddings=32768, rms_norm_eps=1e-6, rope_theta=1000000,
    rope_local_base_freq=10000, rope_scaling=None, sliding_window=512,
    sliding_window_pattern=6, hidden_activation='gelu_pytorch_tanh',
    attn_logit_softcapping=None, final_logit_softcapping=None,
    attention_bias=False,
  ),
  'mistral-7b': dict(
    architectures=['MistralForCausalLM'], vocab_size=32768, hidden_size=4096,
    intermediate_size=14336, max_position_embeddings=32768,
    num_attention_heads=32, num_hidden_layers=32, num_key_value_heads=8,
    rms_norm_eps=1e-5, rope_theta=1000000.0, sliding_window=None,
    tie_word_embeddings=False, hidden_act='silu',
  ),
}  # fmt: skip


def test_published_numbers_of_parameters():
  counts = {
    name: cost.num_params(size)
    for name, size in sizes.SIZES.items()
    if 'vocab_size' in size
  }
  assert counts == PUBLISHED


@pytest.mark.parametrize('name', CONFIG_FILES)
def test_published_configs(name):
  config = TransformerConfig(**sizes.SIZES[name])
  assert hf_config.read(CONFIG_FILES[name]) == config


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
