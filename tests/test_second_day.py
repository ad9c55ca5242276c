"""README's way from a table of problems to a critic that answers curl."""

import csv
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
from helpers import random_params

from critic_jax.models.config import TransformerConfig
from critic_jax.models.transformer import Transformer
from critic_jax.pretrained import hf_weights
from critic_jax.tasks import arithmetic, arithmetic_tokenizer
from critic_jax.text.tokenizer import from_sentencepiece, train_sentencepiece
from critic_jax.workdir import run_dir

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
SECTION = README.split('## Your own data, your own model\n')[1].split('\n## ')[
  0
]
INSTALL, TRAIN, EVALUATE, CONVERT, SERVE, ASK = (
  SECTION.split('```\n')[1].strip().split('\n')
)
TEMPLATE = (
  '{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}'
  '{% if add_generation_prompt %}assistant: {% endif %}'
)
# Few and short responses, of one shape; what is trained and measured stays.
SMALL = [
  '--config.phases.rl.steps=2',
  '--config.phases.rl.num_critiques=2',
  '--config.phases.rl.row_shapes=()',
  '--config.evals.heldout.num_examples=2',
  *(
    f'--config.models.{role}.{setting}'
    for role in ('solver', 'critic')
    for setting in ('lengths=(768,)', 'max_new_tokens=8', 'max_rows=4')
  ),
]


def save_chat_model(folder):
  """Saves a tiny chat model, as Hugging Face has it."""
  tokenizer = from_sentencepiece(
    train_sentencepiece(arithmetic_tokenizer.corpus(40, seed=1), 400)
  )
  config = TransformerConfig(
    vocab_size=tokenizer.vocab_size, embed_dim=32, mlp_dim=48, num_layers=1,
    num_heads=4, num_kv_heads=2, head_dim=8, max_len=1024,
  )  # fmt: skip
  params = random_params(Transformer(config), seed=1)
  hf_weights.save(folder, config, params, tokenizer)
  (folder / 'chat_template.jinja').write_text(TEMPLATE)


def save_problems(path):
  """Writes a table whose columns have names of their own."""
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['prompt', 'label'])
    for problem in arithmetic.problems('train', 60):
      writer.writerow([problem.question, problem.answer])


@pytest.fixture(scope='module')
def words(tmp_path_factory):
  """Returns a function: the words of a line of README, in a folder."""
  folder = tmp_path_factory.mktemp('second_day')
  save_chat_model(folder / 'models/mine')
  save_problems(folder / 'problems.csv')

  def words(line):
    line = re.sub(r'\b(runs/|models/|problems\.csv)', rf'{folder}/\1', line)
    return shlex.split(line.removesuffix(' &'))

  return words


@pytest.fixture(scope='module')
def run(words, python):
  """Returns a function that runs README's line, with more words."""

  def run(line, *more):
    program, *rest = words(line)
    assert program == '.venv/bin/python'
    result = python(*rest, *more)
    assert not result.returncode, result.stdout[-500:] + result.stderr[-2000:]
    return result.stdout

  return run


@pytest.fixture(scope='module')
def trained(words, run):
  """Trains, and returns the run's folder."""
  data = pathlib.Path(words('runs/mine')[0]).parent
  run(TRAIN, *SMALL, f'--config.data.data_dir={data}')
  return data / 'mine'


def test_a_table_trains_a_critic_and_measures_it_before_and_after(trained):
  assert (trained / 'DONE').exists()
  rows = list(run_dir.read_metrics(trained / 'metrics.jsonl'))
  assert [row['step'] for row in rows] == [0, 1]
  columns = json.loads((trained / 'results/heldout.json').read_text())[
    'columns'
  ]
  assert list(columns) == ['start', 'rl', 'difference']
  for name in ('start', 'rl'):
    assert columns[name]['accuracy before']['n'] == 2


def test_it_is_measured_again_exported_served_and_asked(trained, words, run):
  run(EVALUATE)
  again = trained.with_name('again')
  assert (again / 'results/heldout.json').exists()
  one, other = trained / 'eval/heldout/rl', again / 'eval/heldout/evaluation'
  one, other = (x.with_suffix('.jsonl.gz').read_bytes() for x in (one, other))
  assert one != other  # with other noise
  seeds = (
    json.loads((x / 'config.json').read_text()) for x in (again, trained)
  )
  assert [config['seed'] for config in seeds] == [1, 0]  # other noise
  run(CONVERT)
  exported = pathlib.Path(words(CONVERT)[-1])
  assert (exported / 'config.json').exists()
  assert [*exported.glob('*.safetensors')]

  assert shutil.which('curl'), 'apt-get install curl'
  *command, _ = words(SERVE)[1:]  # all but the port
  process = subprocess.Popen(
    [sys.executable, *command, '0'], stdout=subprocess.PIPE, text=True,
    cwd=ROOT, env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )  # fmt: skip
  try:
    port = re.search(r':(\d+)/v1', process.stdout.readline())[1]
    curl = [word.replace(':8000', f':{port}') for word in words(ASK)]
    answer = subprocess.run(curl, capture_output=True, text=True, check=True)
  finally:
    process.send_signal(signal.SIGINT)
  assert process.wait(60) == 0
  critiques = json.loads(answer.stdout)['critiques']
  assert len(critiques) == 4
  assert {'text', 'verdict', 'advice', 'finish_reason'} <= {*critiques[0]}
