"""The worker of TRL: the step of its `SFTTrainer`.

Its sampling without a server is that of transformers, which has a worker of its
own. Checkpointing of gradients, on by default, is off: it is slower.
"""

from __future__ import annotations

import pathlib
import runpy
import tempfile


def make_tokenizer():
  """Makes the smallest tokenizer that the trainer takes; no text is read."""
  import tokenizers
  import transformers

  words = tokenizers.models.WordLevel({'[PAD]': 0, '[END]': 1}, '[PAD]')
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizers.Tokenizer(words),
    pad_token='[PAD]',
    eos_token='[END]',
  )


def make_update(model, dtype):
  """Makes `update(rows)`, which returns the loss before the update."""
  import datasets
  import torch
  import trl

  trainer = trl.SFTTrainer(
    model,
    args=trl.SFTConfig(
      output_dir=f'{tempfile.gettempdir()}/trl',  # nothing is written
      learning_rate=1e-5,
      weight_decay=0.0,
      max_length=None,
      max_steps=1,
      bf16=dtype == 'bfloat16',
      gradient_checkpointing=False,
      report_to=[],
      use_cpu=not torch.cuda.is_available(),
    ),
    train_dataset=datasets.Dataset.from_dict({'input_ids': [[2, 3, 4]]}),
    processing_class=make_tokenizer(),
  )
  trainer.current_gradient_accumulation_steps = 1  # as `train` sets it
  trainer.create_optimizer()
  optimizer = trainer.accelerator.prepare(trainer.optimizer)
  wrapped = trainer.accelerator.prepare(trainer.model)

  def update(rows):
    tokens = torch.tensor(rows)
    inputs = {
      'input_ids': tokens,
      'attention_mask': torch.ones_like(tokens),
      'labels': tokens,
    }
    loss = trainer.training_step(wrapped, inputs)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()

  return update


def prepare(setup, by_stages):
  """Makes the functions of a worker, as worker.py describes them."""
  import transformers
  import trl

  if setup['work']['stages']:
    raise ValueError(
      'trl samples with transformers or a vLLM server; compare transformers'
    )
  beside = pathlib.Path(__file__).with_name('transformers.py')
  make_model = runpy.run_path(str(beside))['make_model']
  model = make_model(setup['model'], 'float32', setup['seed'])
  return {
    'versions': {
      'transformers': transformers.__version__,
      'trl': trl.__version__,
    },
    'update': make_update(model, setup['dtype']),
  }
