"""Converts a checkpoint to a Hugging Face folder.

    python -m critic_jax.convert SRC DST [--dtype bfloat16] [--overwrite]
    python -m critic_jax.convert RUN:PHASE DST --adapters

SRC is RUN:PHASE, the critic that a run had trained at the end of a phase (or
RUN, RUN:best, RUN:PHASE:ROLE for another role), a Hugging Face folder, a .gguf
file, or package:NAME, an installed package that holds one .gguf file. Adapters
are merged into their model, or alone with --adapters. Errors are one line on
stderr, exit code 2.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from critic_jax.pretrained import hf_weights, peft_adapters
from critic_jax.terminal import printable
from critic_jax.training import model_sources

_EXAMPLES = """\
examples:
  python -m critic_jax.convert runs/quickstart:rl models/critic
  python -m critic_jax.convert model.gguf models/qwen --dtype bfloat16
"""


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m critic_jax.convert',
    description=__doc__.splitlines()[0],
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    'src',
    help='RUN:PHASE, Hugging Face folder, .gguf file, or package:NAME',
  )
  parser.add_argument('dst', type=pathlib.Path, help='folder to write')
  parser.add_argument(
    '--dtype',
    choices=tuple(hf_weights.DTYPES),
    help="by default the parameters' own",
  )
  parser.add_argument(
    '--adapters',
    action='store_true',
    help="only a role's adapters, in PEFT's format, in float32",
  )
  parser.add_argument(
    '--overwrite', action='store_true', help='replace the model in DST'
  )
  args = parser.parse_args(argv)
  try:
    # Refuse a wrong destination first: loading a model takes minutes.
    _check_destination(args.src, args.dst, args.overwrite)
    if args.adapters and args.dtype:
      raise ValueError(
        'dtype: got it with --adapters, which are float32; leave it out'
      )
    if args.adapters:
      read = model_sources.load_adapters(args.src, 'critic')
      names = peft_adapters.save(args.dst, *read)
    else:
      config, params, tokenizer = model_sources.load(args.src, 'critic')
      names = hf_weights.save(
        args.dst, config, params, tokenizer, dtype=args.dtype
      )
  except (ValueError, OSError) as e:
    line = ' '.join(str(e).split())
    print(printable(f'error: {line}'), file=sys.stderr)
    return 2
  for name in names:
    path = args.dst / name
    print(printable(f'{path}  {path.stat().st_size:,} bytes'))
  return 0


def _check_destination(src, dst, overwrite):
  if dst.is_dir() and any(dst.iterdir()) and not overwrite:
    raise ValueError(
      f'DST: got {str(dst)!r}, which is not empty; expected a new folder; '
      'pass --overwrite to replace the model in it'
    )
  if (dst / 'checkpoints').exists():
    raise ValueError(
      f'DST: got {str(dst)!r}, the folder of a run, whose config.json would be '
      'replaced; expected a folder of its own; give another one'
    )
  if dst.resolve() == pathlib.Path(src).resolve():
    raise ValueError('DST: got SRC itself; expected another folder')


if __name__ == '__main__':
  sys.exit(main())
