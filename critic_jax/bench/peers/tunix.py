"""The worker of Tunix: its `Sampler`, and the step of its `PeftTrainer`.

As its users run it: the sampler's cache has just the size that is needed, top-p
is 1, so that it sorts nothing; a prompt is repeated for each of its samples;
the trainer has its default loss and no LoRA. Where it is compiled for TPUs, it
has its fused attention and keeps the residual stream of each layer.
"""

from __future__ import annotations

ROWS = 64  # rows of a call; the sampler computes all logits of a prompt


class Numbers:
  """A tokenizer of texts that are numbers; 0 is padding, no token an end."""

  def encode(self, text):
    """Returns the numbers of a text."""
    return [int(word) for word in text.split()]

  def decode(self, tokens):
    """Returns '': the worker reads the tokens, not the text."""
    return ''

  def bos_id(self):
    """Returns 0; no beginning is added to a prompt."""
    return 0

  def eos_id(self):
    """Returns -1, which is no token."""
    return -1

  def pad_id(self):
    """Returns 0, a token that no prompt has."""
    return 0


def shape_of(fields):
  """Returns the settings that the models of all families have."""
  return dict(
    num_layers=fields['num_layers'],
    vocab_size=fields['vocab_size'],
    embed_dim=fields['embed_dim'],
    hidden_dim=fields['mlp_dim'],
    num_heads=fields['num_heads'],
    head_dim=fields['head_dim'],
    num_kv_heads=fields['num_kv_heads'],
    rope_theta=fields.get('rope_theta', 10000.0),
    norm_eps=fields.get('norm_eps', 1e-6),
  )


def make_model(fields, dtype, seed):
  """Makes a model with random weights of the fields' family."""
  import jax
  from flax import nnx
  from tunix.models.llama3 import model as llama3
  from tunix.models.qwen2 import model as qwen2
  from tunix.models.qwen3 import model as qwen3

  shape = shape_of(fields)
  tied, rngs = fields.get('tie_embeddings', True), nnx.Rngs(seed)
  if fields.get('qk_norm') or fields.get('qkv_bias'):
    family, name = (qwen3, 'Qwen3') if fields.get('qk_norm') else (
      qwen2, 'Qwen2'
    )  # fmt: skip
    config = family.ModelConfig(**shape, use_tied_embedding=tied, dtype=dtype)
    model = getattr(family, name)(config, rngs=rngs)
  else:
    model = llama3.Llama3(
      llama3.ModelConfig(**shape, weight_tying=tied), rngs=rngs
    )
  state = nnx.state(model)
  nnx.update(model, jax.tree.map(lambda x: x.astype(dtype), state))
  return model


def make_generate(models, fields):
  """Makes the `generate` that `by_stages` calls for each stage."""
  from tunix.generate.sampler import CacheConfig, Sampler

  samplers = {}

  def generate(role, prompts, samples, new, seed):
    length = len(prompts[0])
    size = length + new
    if (role, size) not in samplers:
      samplers[role, size] = Sampler(
        models[role],
        Numbers(),
        CacheConfig(
          cache_size=size,
          num_layers=fields['num_layers'],
          num_kv_heads=fields['num_kv_heads'],
          head_dim=fields['head_dim'],
        ),
      )
    texts = [
      ' '.join(map(str, prompt)) for prompt in prompts for _ in range(samples)
    ]
    responses = []
    for start in range(0, len(texts), ROWS):
      output = samplers[role, size](
        texts[start : start + ROWS],
        max_generation_steps=new,
        max_prompt_length=length,
        eos_tokens=[-1],
        temperature=1.0,
        top_p=1.0,
        seed=seed + start,
      )
      responses += [[int(token) for token in row] for row in output.tokens]
    return responses

  return generate


def make_trainer(model):
  """Makes a trainer of a model, which is given rows of tokens."""
  import jax.numpy as jnp
  import optax
  from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig

  def inputs(tokens):
    rows, length = tokens.shape
    causal = jnp.tril(jnp.ones((length, length), bool))
    return {
      'input_tokens': tokens,
      'input_mask': jnp.ones((rows, length), bool),
      'positions': jnp.broadcast_to(jnp.arange(length), (rows, length)),
      'attention_mask': jnp.broadcast_to(causal, (rows, length, length)),
    }

  return PeftTrainer(
    model,
    optax.adamw(1e-5, b2=0.95, weight_decay=0.0),
    TrainingConfig(eval_every_n_steps=1 << 30),
  ).with_gen_model_input_fn(inputs)


def make_update(model):
  """Makes `update(rows)`, which returns the loss before the update."""
  import jax
  import jax.numpy as jnp
  from flax import nnx

  trainer = make_trainer(model)

  def update(rows):
    step, _ = trainer.jit_train_and_eval_step(cache_nnx_graph=True)
    loss, _, _ = step(jnp.asarray(rows, jnp.int32))
    jax.block_until_ready(nnx.state(model))
    return float(loss)

  return update


def lower(setup):
  """Lowers an update for a topology, as worker.py describes it."""
  from importlib.metadata import version

  import jax
  import jax.numpy as jnp
  import numpy as np
  from flax import nnx
  from jax.experimental import topologies
  from jax.sharding import Mesh, NamedSharding, PartitionSpec
  from tunix.models.qwen2 import model as qwen2
  from tunix.models.qwen3 import model as qwen3

  fields, work = setup['model'], setup['work']
  if not (fields.get('qk_norm') or fields.get('qkv_bias')):
    raise ValueError(
      'model: got a Llama; expected a Qwen: its Llama computes in float32'
    )
  family, name = (qwen3, 'Qwen3') if fields.get('qk_norm') else (qwen2, 'Qwen2')
  config = family.ModelConfig(
    **shape_of(fields),
    use_tied_embedding=fields.get('tie_embeddings', True),
    dtype=getattr(jnp, setup['dtype']),
    remat_config=family.RematConfig.DECODER,
    use_flash_attention=True,
  )
  devices = topologies.get_topology_desc(
    platform='tpu', topology_name=setup['topology']
  ).devices
  mesh = Mesh(np.array(devices).reshape(-1, 1), ('fsdp', 'tp'))
  trainers = []

  def make():
    model = getattr(family, name)(config, rngs=nnx.Rngs(0))
    trainers.append(make_trainer(model))
    return model, trainers[0].optimizer

  def on_mesh(x, spec):
    layout = NamedSharding(mesh, spec if x.ndim else PartitionSpec())
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout)

  with mesh:
    graph, state = nnx.split(nnx.eval_shape(make))
    specs = nnx.get_partition_spec(state)
    state = jax.tree.map(on_mesh, state, specs)
    train_step = trainers[0].create_train_step_fn()

    def step(state, tokens):
      model, optimizer = nnx.merge(graph, state)
      outcome = train_step(model, optimizer, tokens)
      return nnx.state((model, optimizer)), outcome

    tokens = jax.ShapeDtypeStruct((work['rows'], work['prompt']), jnp.int32)
    tokens = on_mesh(tokens, PartitionSpec('fsdp'))
    layout = jax.tree.map(lambda x: x.sharding, state)
    traced = jax.jit(
      step, donate_argnums=0, out_shardings=(layout, None)
    ).trace(state, tokens)
    lowered = traced.lower()
  return {
    'versions': {name: version(name) for name in ('google-tunix', 'jax')},
    'jaxpr': traced.jaxpr,
    'lowered': lowered,
  }


def device_bytes():
  """Returns the peak of a device's memory so far; {} where it is unknown."""
  import jax

  stats = jax.devices()[0].memory_stats() or {}
  peak = stats.get('peak_bytes_in_use')
  return {} if peak is None else {'device_bytes': peak}


def prepare(setup, by_stages):
  """Makes the functions of a worker, as worker.py describes them."""
  from importlib.metadata import version

  work, fields, dtype = setup['work'], setup['model'], setup['dtype']
  worker = {
    'versions': {name: version(name) for name in ('google-tunix', 'jax')},
    'facts': device_bytes,
  }
  if not work['stages']:
    if dtype != 'float32':
      raise ValueError(
        f'dtype: got {dtype}; expected float32: not every model of Tunix '
        'computes in another one than its parameters have'
      )
    model = make_model(fields, 'float32', setup['seed'])
    return {**worker, 'update': make_update(model)}
  roles = sorted({stage['role'] for stage in work['stages']})
  models = {
    role: make_model(fields, dtype, setup['seed'] + number)
    for number, role in enumerate(roles)
  }
  generate = make_generate(models, fields)

  def sample(prompts, seed):
    return by_stages(work, prompts, generate, seed)

  return {**worker, 'sample': sample}
