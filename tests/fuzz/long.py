"""Fuzzes for as long as it is told, an area after the other, over and over.

  python tests/fuzz/long.py --minutes 60 [--areas rows runs]

An area is a file test_fuzz_<area>.py. Each round is a pytest of its own with
another seed, so that a crash of a library written in C is seen as one, and what
hangs is ended. What failed is printed with the seed that finds it again, in the
end the examples and minutes of each area; exit code 1 if anything failed.
"""

import argparse
import collections
import pathlib
import re
import subprocess
import sys
import time

FOLDER = pathlib.Path(__file__).parent
MAX_ROUND = 900  # seconds
AREAS = sorted(
  path.stem.removeprefix('test_fuzz_') for path in FOLDER.glob('test_fuzz_*.py')
)
EXAMPLES = re.compile(r'(\d+) passing, (\d+) failing')


def run_round(area: str, seed: int) -> tuple[int, str]:
  """Runs an area with a seed; returns its number of examples and failures."""
  command = [
    sys.executable, '-m', 'pytest', FOLDER / f'test_fuzz_{area}.py', '-q',
    '--hypothesis-profile=long', f'--hypothesis-seed={seed}',
    '--hypothesis-show-statistics', '--tb=short', '-p', 'no:cacheprovider',
  ]  # fmt: skip
  try:
    process = subprocess.run(
      command, capture_output=True, text=True, timeout=MAX_ROUND,
      errors='replace', cwd=FOLDER.parents[1],
    )  # fmt: skip
  except subprocess.TimeoutExpired as error:
    tail = (error.stdout or b'').decode(errors='replace')[-2000:]
    return 0, f'hung for {MAX_ROUND} s\n{tail}'
  examples = sum(sum(map(int, m)) for m in EXAMPLES.findall(process.stdout))
  if process.returncode:
    outcome = f'exit code {process.returncode}'  # below 0: a signal
    failures = process.stdout.partition('Hypothesis Statistics')[0]
    return examples, f'{outcome}\n{failures[-9000:]}\n{process.stderr[-3000:]}'
  return examples, ''


def main():
  """Runs the command."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--minutes', type=float, default=60)
  parser.add_argument('--areas', nargs='+', choices=AREAS, default=AREAS)
  parser.add_argument('--seed', type=int, default=0, help='of the first round')
  args = parser.parse_args()
  examples, seconds = collections.Counter(), collections.Counter()
  start, seed, failed = time.time(), args.seed, 0
  while time.time() - start < 60 * args.minutes:
    # The area that had the least time so far.
    area = min(args.areas, key=lambda area: seconds[area])
    round_start = time.time()
    count, failure = run_round(area, seed)
    examples[area] += count
    seconds[area] += time.time() - round_start
    if failure:
      failed += 1
      print(f'--- {area}, seed {seed}: {failure}', flush=True)
    seed += 1
  for area in args.areas:
    minutes = seconds[area] / 60
    print(f'{area:12} {examples[area]:9,} examples {minutes:6.1f} minutes')
  print(f'{failed} rounds failed')
  sys.exit(1 if failed else 0)


if __name__ == '__main__':
  main()
