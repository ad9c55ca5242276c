"""Serves what was trained: OpenAI's protocol, and critiques.

    python -m critic_jax.serve runs/quickstart:rl

The source is what `critic_jax.load` takes: a run's critic and solver, or one
model as both, by the names 'critic' and 'solver'. The server listens on this
machine only, unless --host says otherwise: it asks nobody for a password.
Ctrl-C ends it. Errors are one line on stderr, exit code 2.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Sequence

from critic_jax import lookup
from critic_jax.inference import interactive
from critic_jax.sampling.engine import Engine
from critic_jax.sampling.lm import LM
from critic_jax.terminal import printable

_EXAMPLES = """\
examples:
  python -m critic_jax.serve runs/quickstart:rl
  python -m critic_jax.serve models/critic --solver models/qwen --lanes 64
"""
_LOCAL = ('127.0.0.1', 'localhost', '::1')
_GRACE_S = 5  # seconds that requests under way have at the end


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m critic_jax.serve',
    description=__doc__.splitlines()[0],
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    'source', help='RUN:PHASE, Hugging Face folder, .gguf file, package:NAME'
  )
  parser.add_argument('--solver', default='', help='another model as solver')
  parser.add_argument('--host', default='127.0.0.1', help='where to listen')
  parser.add_argument('--port', type=int, default=8000, help='0: a free one')
  parser.add_argument(
    '--lanes', type=int, default=16, help='responses of a model at once'
  )
  parser.add_argument(
    '--tensor', type=int, default=1, help='devices that share a model'
  )
  args = parser.parse_args(argv)
  try:
    return _serve(args)
  except (ValueError, OSError) as error:
    line = ' '.join(str(error).split())
    print(printable(f'error: {line}'), file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('ended', file=sys.stderr)
    return 0


def _serve(args) -> int:
  """Serves until a signal ends it."""
  try:
    import uvicorn

    from critic_jax.serve import app
  except ImportError as error:
    raise ValueError(
      f'serve: got {error}; expected starlette and uvicorn; run pip install '
      "'critic_jax[serve]', or pip install -e '.[serve]' in a checkout"
    ) from None
  lookup.check_counts(lanes=args.lanes, tensor=args.tensor)
  with _listening(args.host, args.port) as listener:
    engines = make_engines(args.source, args.solver, args.lanes, args.tensor)
    host, port = listener.getsockname()[:2]
    hosts = [*_LOCAL[:2], '[::1]'] if args.host in _LOCAL else ['*']
    server = uvicorn.Server(
      uvicorn.Config(
        app.make_app(engines, hosts),
        log_level='warning',
        timeout_graceful_shutdown=_GRACE_S,
      )
    )
    address = f'[{host}]' if ':' in host else host
    line = (
      f'{", ".join(engines)}: http://{address}:{port}/v1, '
      f'http://{address}:{port}/critique; Ctrl-C ends it'
    )
    print(printable(line), flush=True)
    try:
      server.run(sockets=[listener])
    finally:
      for engine in {*engines.values()}:
        engine.close()
  return 0


def _listening(host: str, port: int) -> socket.socket:
  """Opens the socket, before a model is loaded for nothing."""
  try:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    return socket.create_server((host, port), family=family)
  except (OSError, OverflowError) as error:
    raise ValueError(
      f'host, port: got {host}, {port}, where nothing can listen ({error}); '
      'expected an address of this machine and a free port; name another port'
    ) from None


def make_engines(
  source: str, solver: str, num_lanes: int, tensor: int = 1
) -> dict[str, Engine]:
  """Loads models and begins to sample.

  Args:
    source: see `interactive.load`.
    solver: another model as solver, or ''.
    num_lanes: responses of a model at once.
    tensor: devices that share a model; the others have copies.

  Returns:
    By role, without one that another server samples; one for both where they
    are one model.
  """
  mesh = dict(data=-1, fsdp=1, tensor=tensor, sequence=1)
  loop = interactive.load(source, solver=solver, mesh=mesh)
  models = {'critic': loop.critic, 'solver': loop.solver}
  models = {r: m for r, m in models.items() if m and isinstance(m.lm, LM)}
  engines = {
    id(model): Engine(model.lm, model.params, num_lanes)
    for model in models.values()
  }
  for engine in engines.values():
    engine.start()
  return {role: engines[id(model)] for role, model in models.items()}


def console_script() -> None:
  """Runs the command as a program."""
  sys.exit(main())


if __name__ == '__main__':
  console_script()
