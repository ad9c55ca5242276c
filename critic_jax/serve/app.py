"""What the server answers, as an ASGI application.

GET  /v1/models             the roles that can be asked
POST /v1/chat/completions   OpenAI's protocol, without streams
POST /critique              problem, solution -> critiques with their verdicts

Requests of all clients go through the lanes of `sampling/engine.py`. Errors are
OpenAI's: `{"error": {"message": ..., "type": ..., "code": ...}}`, the message
of the house's form. A page of another site cannot ask: a body must be called
JSON, which browsers send to nobody without leave, and the host in a request
must be one that the server was started for.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from critic_jax.rollouts import rollout
from critic_jax.sampling.engine import Completion, Engine, FullError, Job
from critic_jax.serve import bodies
from critic_jax.types import Problem

_BODY_S = 30.0  # seconds in which a client sends its request


class _RefusedError(Exception):
  """A request that is refused, with its status and OpenAI's code for it."""

  def __init__(self, message: str, status: int = 400, code: str | None = None):
    super().__init__(message)
    self.status, self.code = status, code


def make_app(engines: Mapping[str, Engine], hosts: Sequence[str]) -> Starlette:
  """Makes the application.

  Args:
    engines: by the name of the model, such as 'critic'; two may be one.
    hosts: what clients may call the server; '*' for anything.
  """

  async def models(request: Request) -> dict[str, Any]:
    entry = {'object': 'model', 'created': 0, 'owned_by': 'critic_jax'}
    return {'object': 'list', 'data': [{'id': x, **entry} for x in engines]}

  async def chat(request: Request) -> dict[str, Any]:
    fields = bodies.read(await _body(request), bodies.CHAT)
    name = bodies.text(fields, 'model')
    if name not in engines:
      raise _RefusedError(
        f'model: got {name[:100]!r}; expected one of {[*engines]}',
        404,
        'model_not_found',
      )
    engine, messages = engines[name], bodies.messages(fields)
    asked = bodies.sampling(fields, engine.lm)
    prompt = await _encoded(engine, engine.lm.encode_messages, messages)
    completions = await _sampled(request, engine, prompt, asked)
    return {
      'id': f'chatcmpl-{secrets.token_hex(12)}',
      'object': 'chat.completion',
      'created': int(time.time()),
      'model': name,
      'choices': [
        {
          'index': index,
          'message': {'role': 'assistant', 'content': completion.text},
          'finish_reason': completion.finish,
          'logprobs': None,
        }
        for index, completion in enumerate(completions)
      ],
      'usage': _usage(prompt, completions),
    }

  async def critique(request: Request) -> dict[str, Any]:
    fields = bodies.read(await _body(request), bodies.CRITIQUE)
    if 'critic' not in engines:
      raise _RefusedError('critique: got a run without a critic', 404)
    engine = engines['critic']
    stages = engine.lm.stages
    problem = Problem('asked', bodies.text(fields, 'problem'), '')
    solution = rollout.write(
      stages.solve, problem, bodies.text(fields, 'solution')
    )
    asked = bodies.sampling(fields, engine.lm)
    prompt = await _encoded(
      engine, engine.lm.encode_prompt, stages.critique.prompt(solution)
    )
    completions = await _sampled(request, engine, prompt, asked)
    return {
      'critiques': [_critique(stages.critique, x) for x in completions],
      'usage': _usage(prompt, completions),
    }

  return Starlette(
    routes=[
      Route('/v1/models', _answering(models)),
      Route('/v1/chat/completions', _answering(chat), methods=['POST']),
      Route('/critique', _answering(critique), methods=['POST']),
    ],
    middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[*hosts])],
    exception_handlers={
      404: lambda request, error: _error('path: got an unknown one', 404),
      405: lambda request, error: _error(f'method: got {request.method}', 405),
    },
  )


def _answering(handler: Callable) -> Callable:
  """Makes an endpoint of a handler: its result as JSON, or its error."""

  async def endpoint(request: Request) -> Response:
    try:
      return JSONResponse(await handler(request))
    except ValueError as error:
      return _error(str(error), 400)
    except _RefusedError as error:
      return _error(str(error), error.status, error.code)
    except FullError as error:
      message = f'queue: got no room, as {error}; expected some; ask later'
      return _error(message, 503, headers={'Retry-After': '1'})
    except (RuntimeError, asyncio.CancelledError) as error:
      return _error(f'server: {error or "it ends"}', 500)
    except ClientDisconnect:
      return Response(status_code=499)  # nobody reads it

  return endpoint


def _error(
  message: str, status: int, code: str | None = None, headers=None
) -> Response:
  kind = 'invalid_request_error' if status < 500 else 'server_error'
  error = {'message': ' '.join(message.split()), 'type': kind, 'code': code}
  return JSONResponse({'error': error}, status, headers=headers)


async def _body(request: Request) -> bytes:
  """Reads the body of a request.

  Raises:
    _RefusedError: it is not called JSON, is too long, or comes too slowly.
    ClientDisconnect: the client has gone.
  """
  kind = request.headers.get('content-type', '').partition(';')[0].strip()
  if kind.lower() != 'application/json':
    raise _RefusedError(
      f'Content-Type: got {kind[:60]!r}; expected application/json', 415
    )
  content = bytearray()
  try:
    async with asyncio.timeout(_BODY_S):
      async for part in request.stream():
        content += part
        if len(content) > bodies.MAX_BYTES:
          raise _RefusedError(
            f'body: got more than {bodies.MAX_BYTES} bytes; expected fewer', 413
          )
  except TimeoutError:
    raise _RefusedError(
      f'body: got a part of it in {_BODY_S:.0f} s; expected all', 408
    ) from None
  return bytes(content)


async def _encoded(engine: Engine, encode: Callable, prompt) -> list[int]:
  """Encodes a prompt in a thread, as a long one takes a while."""
  tokens = await asyncio.to_thread(encode, prompt)
  limit = engine.lm.lengths[-1]
  if not tokens or len(tokens) > limit:
    raise _RefusedError(
      f'prompt: got {len(tokens)} tokens; expected 1 to {limit}; shorten it',
      code='context_length_exceeded' if tokens else None,
    )
  return tokens


async def _sampled(
  request: Request, engine: Engine, prompt: list[int], asked: bodies.Asked
) -> list[Completion]:
  """Samples the responses to a prompt, unless the client goes away.

  Raises:
    ClientDisconnect: it has; its lanes are free again.
  """
  n, *settings = asked
  params, limit, seed, stop = settings
  jobs = [Job(prompt, params, limit, seed, i, stop) for i in range(n)]
  engine.submit(jobs)
  results = asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
  gone = asyncio.ensure_future(_gone(request))
  try:
    await asyncio.wait([results, gone], return_when='FIRST_COMPLETED')
    if not results.done():
      raise ClientDisconnect
    return await results
  finally:
    gone.cancel()
    results.cancel()  # and so the jobs


async def _gone(request: Request) -> None:
  """Waits until the client has disconnected."""
  while (await request.receive())['type'] != 'http.disconnect':
    pass


def _critique(stage, completion: Completion) -> dict[str, Any]:
  parsed = stage.parse(completion.text)
  is_whole = completion.finish == 'stop'
  return {
    'text': completion.text,
    'verdict': parsed['verdict'] if is_whole else None,
    'advice': parsed['conclusion'] or '',
    'finish_reason': completion.finish,
  }


def _usage(prompt, completions) -> dict[str, int]:
  sampled = sum(completion.num_tokens for completion in completions)
  return {
    'prompt_tokens': len(prompt),
    'completion_tokens': sampled,
    'total_tokens': len(prompt) + sampled,
  }
