"""Converts a checkpoint to a Hugging Face folder.

    python -m critic_jax.convert SRC DST [--dtype bfloat16] [--overwrite]
    python -m critic_jax.convert RUN:PHASE DST --adapters
    python -m critic_jax.convert --merge SRC SRC --weight 0.5 DST

SRC is RUN:PHASE, the critic that a run had trained at the end of a phase (or
RUN, RUN:best, RUN:PHASE:ROLE for another role), a Hugging Face folder, a .gguf
file, or package:NAME, an installed package that holds one .gguf file. Adapters
are merged into their model, or alone with --adapters. --merge writes what is
between two models of one family and size. Errors are one line on stderr, exit
code 2.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from critic_jax.pretrained import hf_weights, merging, peft_adapters
from critic_jax.terminal import printable
from critic_jax.training import model_sources, role_checks

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
    nargs='?',
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
  _add_merging(parser)
  # SRC may be left out, and options stand between: all at once, at the end.
  args = parser.parse_intermixed_args(argv)
  try:
    # Refuse a wrong destination first: loading a model takes minutes.
    _check_options(args)
    for src in args.merge or [args.src]:
      _check_destination(src, args.dst, args.overwrite)
    if args.adapters:
      read = model_sources.load_adapters(args.src, 'critic')
      names = peft_adapters.save(args.dst, *read)
    else:
      model = (
        _merged(
          *args.merge,
          weight=0.5 if args.weight is None else args.weight,
          rule=args.rule or 'slerp',
        )
        if args.merge
        else model_sources.load(args.src, 'critic')
      )
      names = hf_weights.save(args.dst, *model, dtype=args.dtype)
  except (ValueError, OSError) as e:
    line = ' '.join(str(e).split())
    print(printable(f'error: {line}'), file=sys.stderr)
    return 2
  for name in names:
    path = args.dst / name
    print(printable(f'{path}  {path.stat().st_size:,} bytes'))
  return 0


def _add_merging(parser):
  parser.add_argument(
    '--merge',
    nargs=2,
    metavar='SRC',
    help='two models of one family and size, in the place of SRC',
  )
  parser.add_argument(
    '--weight',
    type=float,
    help='of the second of them, 0 to 1; by default 0.5',
  )
  parser.add_argument(
    '--rule',
    choices=tuple(merging.RULES),
    help='along the arc between two matrices, or the line; by default slerp',
  )


def _check_options(args):
  if bool(args.merge) == bool(args.src):
    got = f'{args.src!r} and --merge' if args.merge else 'neither'
    raise ValueError(
      f'SRC: got {got}; expected one of both; give SRC and DST, or --merge SRC '
      'SRC and DST'
    )
  if not args.merge and (args.weight is not None or args.rule):
    raise ValueError(
      'weight, rule: got one without --merge; expected two models; give --merge'
    )
  if args.weight is not None and not 0 <= args.weight <= 1:
    raise ValueError(f'weight: got {args.weight}; expected 0 to 1')
  if args.adapters and args.merge:
    raise ValueError(
      'adapters: got it with --merge, which is of whole models; leave it out'
    )
  if args.adapters and args.dtype:
    raise ValueError(
      'dtype: got it with --adapters, which are float32; leave it out'
    )


def _merged(first, second, **how):
  """Returns the config, parameters and tokenizer between two models."""
  origins = [model_sources.find(source, 'critic') for source in (first, second)]
  (config, tokenizer), (other, other_tokenizer) = map(
    model_sources.load_config_and_tokenizer, origins
  )
  merging.check(config, other)  # before weights are read
  if not role_checks.is_same_vocabulary(tokenizer, other_tokenizer):
    raise ValueError(
      f'merge: got {first!r} and {second!r}, whose tokenizers differ; expected '
      'one vocabulary; give two models that were trained from the same weights'
    )
  params = map(model_sources.load_weights, origins)
  return config, merging.merge(*params, **how), tokenizer


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
