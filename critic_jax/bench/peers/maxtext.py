"""The worker of MaxText: the step of its trainer, compiled ahead by its tool.

As `maxtext.trainers.pre_train.train_compile` compiles it, with its defaults:
layers in a loop, the residual stream kept, its choice of attention kernel,
AdamW after a clip; but for no dropout and no decay.
"""

from __future__ import annotations


def arguments(setup):
  """Returns the settings that make a setup's model, rows and mesh."""
  fields, work = setup['model'], setup['work']
  family = 'llama2'
  if fields.get('qkv_bias') or fields.get('qk_norm'):
    family = 'qwen3' if fields.get('qk_norm') else 'qwen2'
  if fields.get('rope_scaling'):
    raise ValueError('rope_scaling: got one; expected None')
  num_devices = setup['mesh']['fsdp']
  return {
    'base_num_decoder_layers': fields['num_layers'],
    'base_emb_dim': fields['embed_dim'],
    'base_mlp_dim': fields['mlp_dim'],
    'base_num_query_heads': fields['num_heads'],
    'base_num_kv_heads': fields['num_kv_heads'],
    'head_dim': fields['head_dim'],
    'vocab_size': fields['vocab_size'],
    'decoder_block': family,
    'mlp_activations': ['silu', 'linear'],
    'attention_bias': fields.get('qkv_bias', False),
    'use_qk_norm': fields.get('qk_norm', False),
    'logits_via_embedding': fields.get('tie_embeddings', True),
    'normalize_embedding_logits': False,
    'rope_max_timescale': int(fields.get('rope_theta', 10000)),
    'normalization_layer_epsilon': fields.get('norm_eps', 1e-6),
    'dtype': setup['dtype'],
    'max_target_length': work['prompt'],
    'per_device_batch_size': work['rows'] / num_devices,
    'ici_fsdp_parallelism': num_devices,
    'internal_compile': True,
    'internal_compile_num_devices': num_devices,
    'compile_topology': setup['topology'],
    'compile_topology_num_slices': 1,
    'enable_dropout': False,
    'adam_weight_decay': 0.0,
    'dataset_type': 'synthetic',
    'enable_checkpointing': False,
    'steps': 10,
    'run_name': 'bench',
    'base_output_directory': '/tmp/bench',
  }


def lower(setup):
  """Lowers an update for a topology, as worker.py describes it."""
  import os
  from importlib.metadata import version

  import jax
  import maxtext
  from flax.core.spmd import logical_axis_rules
  from maxtext.configs import pyconfig
  from maxtext.trainers.pre_train import train, train_compile
  from maxtext.utils import maxtext_utils, sharding

  folder = os.path.dirname(os.path.abspath(maxtext.__file__))
  config = pyconfig.initialize(
    ['', os.path.join(folder, 'configs', 'base.yml')], **arguments(setup)
  )
  mesh = train_compile.get_topology_mesh(config)
  inputs, keywords, layout, _, model = train_compile.get_shaped_inputs(
    mesh, config
  )
  params_layout, layout = sharding.maybe_update_params_sharding_with_opt(
    config, layout
  )
  step, in_layout, out_layout, static, donated = (
    maxtext_utils.get_functional_train_with_signature(
      train.train_step,
      sharding.get_input_data_sharding(config, mesh),
      sharding.build_zero1_input_state_mesh_shardings(
        config, layout, params_layout
      ),
      model,
      config,
      params_layout,
    )
  )
  with jax.set_mesh(mesh), logical_axis_rules(config.logical_axis_rules):
    traced = jax.jit(
      step,
      in_shardings=in_layout,
      out_shardings=out_layout,
      static_argnums=static,
      donate_argnums=donated,
    ).trace(*inputs, **keywords)
    lowered = traced.lower()
  return {
    'versions': {name: version(name) for name in ('maxtext', 'jax')},
    'jaxpr': traced.jaxpr,
    'lowered': lowered,
  }


def prepare(setup, by_stages):
  """Raises ValueError: it is not measured where it would have to run."""
  raise ValueError('maxtext: got a work to run; expected --compile')
