"""Writes the golden of PEFT with torch, transformers and peft.

Run in an environment of its own (the tests need neither torch nor this):

  pip install torch==2.13.0 transformers==5.23.0 peft==0.21.2
  python tests/goldens/make_peft.py

`peft/`: adapters of the tiny Qwen2 in `qwen2/`, as PEFT saves them, and
`golden.npz` with the tokens of that folder and float32 logits. With a folder as
argument, of our export, prints the logits that PEFT computes of it and of the
golden: how much they differ.
"""

import pathlib
import sys

import numpy as np
import peft
import torch
import transformers

HERE = pathlib.Path(__file__).parent
TOKENS = np.load(HERE / 'qwen2' / 'golden.npz')['tokens']


def base():
  return transformers.AutoModelForCausalLM.from_pretrained(
    HERE / 'qwen2', dtype=torch.float32
  )


def logits(model):
  with torch.no_grad():
    return model.eval()(torch.tensor(TOKENS).long()).logits.numpy()


def make():
  config = peft.LoraConfig(
    r=3, lora_alpha=5.0, lora_dropout=0.1, task_type='CAUSAL_LM',
    target_modules=['q_proj', 'o_proj', 'down_proj'],
  )  # fmt: skip
  torch.manual_seed(0)
  model = peft.get_peft_model(base(), config)
  with torch.no_grad():
    for name, value in model.named_parameters():
      if 'lora_' in name:
        value += 0.1 * torch.randn_like(value)
  model.peft_config['default'].base_model_name_or_path = 'tests/goldens/qwen2'
  model.save_pretrained(HERE / 'peft')
  (HERE / 'peft' / 'README.md').unlink(missing_ok=True)
  np.savez_compressed(HERE / 'peft' / 'golden.npz', logits=logits(model))


if __name__ == '__main__':
  if len(sys.argv) > 1:
    ours = logits(peft.PeftModel.from_pretrained(base(), sys.argv[1]))
    golden = np.load(HERE / 'peft' / 'golden.npz')['logits']
    print(np.abs(ours - golden).max(), np.abs(ours - logits(base())).max())
  else:
    make()
