r"""Preference games of a few actions, solved exactly: what each update does.

A game is P, float64[N, N], P[i, j] the probability that action i is preferred
to j, and the logits of a reference. Updates take and return logits, and have no
noise: they are the optima of the losses in critic_jax/objectives/games.py, or
the mean steps of advantages in win_rates.py. The command prints what 10 such
games come to, in 5 s of one core:

  python tests/objectives/tabular_games.py

Result (2026-11-29): duality gaps of the last policy, medians of 10 games after
1,000 steps.

  KL    step     INPO, online IPO   Nash-MD   EGPO
  0.1   0.25     0                  8.0e-5    0
  0.1   1        0                  1.4e-3    0
  0.1   3        0 (worst 5.5e-5)   1.8e-2    0
  0.1   10       0.49               0.16      0.48
  0.01  1        0.59               0.55      2.2e-12
  0.01  5        0.79               0.74      0.22
  0.1   falling                     6.8e-5, 6.5e-7, 4.0e-8 after 100, 1,000,
                                    4,000 steps

0 is below 1e-15. Without a KL averages find the equilibrium, and last policies
do not: exploitability 0.21 of the last and 0.0014 of the average in a cycle of
0.9, 0.17 and 0.0024 in one of 0.9, 0.8 and 0.6 (SPO), and, in log-odds, 2.0 and
0.28, 0.87 and 0.089, 5.7 and 0.053 after 100, 1,000 and 10,000 steps (GPO).
"""

import functools

import numpy as np


def softmax(logits):
  exp = np.exp(logits - np.max(logits))
  return exp / np.sum(exp)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def draw_game(seed=0, num_actions=10):
  """Draws preferences that are mostly certain, and a reference's logits."""
  random = np.random.default_rng(seed)
  strength = 3 * random.normal(size=(num_actions, num_actions))
  return sigmoid(strength - strength.T), random.normal(size=num_actions)


def cycle(first=0.9, second=0.9, third=0.9):
  """Three actions, each of which is preferred to the next."""
  wins = np.full((3, 3), 0.5)
  for i, probability in enumerate((first, second, third)):
    j = (i + 1) % 3
    wins[i, j], wins[j, i] = probability, 1 - probability
  return wins


def exploitability(policy, wins, even=0.5):
  """Returns how often the best answer to a policy wins, above a half.

  Args:
    policy: its probabilities.
    wins: preferences, or scores.
    even: what an even game has: 0 of scores.
  """
  return np.max(wins @ policy) - even


def log_odds(wins):
  """Returns the scores of which preferences are the sigmoid; antisymmetric."""
  return np.log(wins / wins.T)


def duality_gap(logits, wins, ref, beta):
  """Returns what two best answers gain in the game with a KL; 0 at its Nash.

  J(p, q) = p P q - beta KL(p || ref) + beta KL(q || ref); the best answer to p
  has the logits ref + P p / beta.
  """

  def kl(p):
    return p @ (np.log(p) - np.log(softmax(ref)))

  policy = softmax(logits)
  best = softmax(ref + wins @ policy / beta)
  return 2 * (best @ wins @ policy - 0.5 - beta * (kl(best) - kl(policy)))


# ------------------------------------------------------------------ updates


def mirror(logits, wins, ref, *, eta, tau, opponent=None):
  """Online mirror descent: `(1 - eta tau) x + eta tau ref + eta P opponent`.

  INPO's step, whose eta is one over this one; online IPO's (EGPO's
  exponentiated gradient). With tau = 0 it is multiplicative weights, the step
  of SPPO, of DNO with one over eta, and, of scores in place of P, of GPO.
  """
  opponent = softmax(logits) if opponent is None else opponent
  return (1 - eta * tau) * logits + eta * (tau * ref + wins @ opponent)


def nash_md(logits, wins, ref, *, eta, tau):
  """Plays against a geometric mixture with the reference."""
  mixture = softmax((1 - eta * tau) * logits + eta * tau * ref)
  return mirror(logits, wins, ref, eta=eta, tau=tau, opponent=mixture)


def extragradient(logits, wins, ref, *, eta, tau):
  """Steps from the same point again, against the policy of a first step."""
  half = softmax(mirror(logits, wins, ref, eta=eta, tau=tau))
  return mirror(logits, wins, ref, eta=eta, tau=tau, opponent=half)


def play(update, wins, ref, num_steps, start=None):
  """Repeats an update `(logits, wins, ref) -> logits` from the reference.

  Returns:
    The last logits, and the average of the policies on the way.
  """
  logits = np.array(ref if start is None else start, float)
  total = np.zeros(len(logits))
  for _ in range(num_steps):
    logits = update(logits, wins, ref)
    logits -= np.max(logits)
    total += softmax(logits)
  return logits, total / num_steps


def nash_md_of_falling_steps(wins, ref, *, tau, num_steps, largest=5.0):
  """Nash-MD with steps 2 / (tau (t + 2)), `largest` at most."""
  logits = ref
  for step in range(num_steps):
    eta = min(2 / (tau * (step + 2)), largest)
    logits = nash_md(logits, wins, ref, eta=eta, tau=tau)
  return logits


# ------------------------------------------------------------------ figures

UPDATES = {
  'INPO, online IPO (mirror)': mirror,
  'Nash-MD': nash_md,
  'EGPO': extragradient,
}
SETTINGS = [
  (0.1, 0.25), (0.1, 1.0), (0.1, 3.0), (0.1, 10.0), (0.01, 1.0), (0.01, 5.0)
]  # fmt: skip


def gaps(update, tau, eta, num_steps=1000, num_games=10):
  """Returns the duality gaps of several games."""
  update = functools.partial(update, eta=eta, tau=tau)
  result = []
  for seed in range(num_games):
    wins, ref = draw_game(seed)
    logits, _ = play(update, wins, ref, num_steps)
    result.append(duality_gap(logits, wins, ref, tau))
  return result


def main():
  """Prints the figures: the median and the worst of 10 games."""
  print('duality gap of the last policy, 1,000 steps: median (worst)')
  for name, update in UPDATES.items():
    for tau, eta in SETTINGS:
      its = gaps(update, tau, eta)
      print(
        f'{name:27} KL {tau:<5} step {eta:<5} {np.median(its):8.1e} '
        f'({np.max(its):.1e})'
      )
  print('Nash-MD, KL 0.1, falling steps')
  for num_steps in (100, 1000, 4000):
    its = [
      duality_gap(
        nash_md_of_falling_steps(*game, tau=0.1, num_steps=num_steps),
        *game, 0.1,
      )
      for game in map(draw_game, range(10))
    ]  # fmt: skip
    print(f'{num_steps:6} steps {np.median(its):8.1e} ({np.max(its):.1e})')
  print('exploitability without a KL: start, last, average')
  for name, payoffs, even, num_steps in (
    ('SPO, cycle of 0.9', cycle(), 0.5, 5000),
    ('SPO, cycle of 0.9 0.8 0.6', cycle(0.9, 0.8, 0.6), 0.5, 5000),
    *(
      (f'GPO, game 0, {n} steps', log_odds(draw_game(0)[0]), 0.0, n)
      for n in (100, 1000, 10000)
    ),
  ):
    is_cycle = len(payoffs) == 3
    ref = np.array([0.3, 0.0, -0.3]) if is_cycle else draw_game(0)[1]
    eta = 0.1 if is_cycle else num_steps**-0.5
    update = functools.partial(mirror, eta=eta, tau=0.0)
    last, average = play(update, payoffs, ref, num_steps)
    policies = softmax(ref), softmax(last), average
    its = (exploitability(p, payoffs, even) for p in policies)
    print(f'{name:27}', *(f'{x:8.4f}' for x in its))


if __name__ == '__main__':
  main()
