"""The worker of Hugging Face transformers: `generate`, and a torch loop.

As its users run it: scaled-dot-product attention, the default cache, PyTorch's
fused AdamW. A prompt is repeated for each of its samples. In bfloat16 an update
keeps float32 parameters and computes under autocast.
"""

from __future__ import annotations

import contextlib

ROWS = 64  # rows of a call to `generate`


def make_model(fields, dtype, seed):
  """Makes a causal model with random weights of the fields' family."""
  import torch
  import transformers

  family = 'Llama'
  if fields.get('qkv_bias'):
    family = 'Qwen2'
  if fields.get('qk_norm'):
    family = 'Qwen3'
  config = getattr(transformers, f'{family}Config')(
    vocab_size=fields['vocab_size'],
    hidden_size=fields['embed_dim'],
    intermediate_size=fields['mlp_dim'],
    num_hidden_layers=fields['num_layers'],
    num_attention_heads=fields['num_heads'],
    num_key_value_heads=fields['num_kv_heads'],
    head_dim=fields['head_dim'],
    max_position_embeddings=fields['max_len'],
    rms_norm_eps=fields.get('norm_eps', 1e-6),
    rope_theta=fields.get('rope_theta', 10000.0),
    tie_word_embeddings=fields.get('tie_embeddings', True),
    bos_token_id=None,
    eos_token_id=None,  # nothing ends a response
    pad_token_id=None,
    dtype=dtype,
  )
  torch.manual_seed(seed)
  model = transformers.AutoModelForCausalLM.from_config(
    config, dtype=getattr(torch, dtype)
  )
  return model.to('cuda' if torch.cuda.is_available() else 'cpu')


def make_generate(models):
  """Makes the `generate` that `by_stages` calls for each stage."""
  import torch

  def generate(role, prompts, samples, new, seed):
    model = models[role]
    prompts = [prompt for prompt in prompts for _ in range(samples)]
    torch.manual_seed(seed)
    responses = []
    for start in range(0, len(prompts), ROWS):
      tokens = torch.tensor(prompts[start : start + ROWS], device=model.device)
      with torch.inference_mode():
        whole = model.generate(
          tokens,
          attention_mask=torch.ones_like(tokens),
          max_new_tokens=new,
          do_sample=True,
          temperature=1.0,
          top_k=0,
          top_p=1.0,
          pad_token_id=0,
        )
      responses += whole[:, tokens.shape[1] :].tolist()
    return responses

  return generate


def make_update(model, dtype):
  """Makes `update(rows)`, which returns the loss before the update."""
  import torch

  optimizer = torch.optim.AdamW(
    model.parameters(), lr=1e-5, weight_decay=0.0, fused=True
  )
  model.train()

  def update(rows):
    tokens = torch.tensor(rows, device=model.device)
    half = contextlib.nullcontext()
    if dtype == 'bfloat16':
      half = torch.autocast(model.device.type, torch.bfloat16)
    with half:
      loss = model(tokens, labels=tokens, use_cache=False).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()

  return update


def device_bytes():
  """Returns the peak of a GPU's memory since the last call; {} without one."""
  import torch

  if not torch.cuda.is_available():
    return {}
  peak = torch.cuda.max_memory_allocated()
  torch.cuda.reset_peak_memory_stats()
  return {'device_bytes': peak}


def prepare(setup, by_stages):
  """Makes the functions of a worker, as worker.py describes them."""
  import torch
  import transformers

  work, fields, dtype = setup['work'], setup['model'], setup['dtype']
  worker = {
    'versions': {
      'torch': torch.__version__,
      'transformers': transformers.__version__,
    },
    'facts': device_bytes,
  }
  if not work['stages']:
    model = make_model(fields, 'float32', setup['seed'])
    return {**worker, 'update': make_update(model, dtype)}
  roles = sorted({stage['role'] for stage in work['stages']})
  generate = make_generate(
    {
      role: make_model(fields, dtype, setup['seed'] + number).eval()
      for number, role in enumerate(roles)
    }
  )

  def sample(prompts, seed):
    return by_stages(work, prompts, generate, seed)

  return {**worker, 'sample': sample}
