"""The times of a step's stages on a machine, put together."""

from __future__ import annotations

from critic_jax.plan import abstract, memory, speed, workload
from critic_jax.plan.speed import Time


def of_phase(phase, lms, target, learned) -> float:
  """Returns the seconds of a step of a phase; nothing is traced for it.

  Args:
    phase: a phase of the run.
    lms: LMs by role.
    target: a `forecast.Target`.
    learned: the batch of an update.
  """
  sampled = workload.sampled(phase.recipe, lms, target.shares.length)
  times = of_stages(phase, lms, target, sampled, learned)
  return total(times, phase.config.staleness)


def share(stage, processes):
  """Returns the share of a stage that one process samples."""
  return stage._replace(prompts=-(-stage.prompts // processes))


def of_stages(phase, lms, target, sampled, learned) -> list[Time]:
  """Lists the times of a step's stages, in order.

  Args:
    phase: a phase of the run.
    lms: LMs by role.
    target: a `forecast.Target`.
    sampled: the stages, as `workload.sampled` gives them.
    learned: the batch of an update.
  """
  mesh, sample_mesh = target.mesh, target.sample_mesh
  section = phase.config

  def model(role, mesh):
    lm = lms[role]
    if mesh is not target.mesh:
      lm = abstract.as_sampled(lm)
    return speed.make_model(lm, mesh, target.chip, target.shares)

  times = []
  for role in section.train:
    copies = memory.copies([role], lms, mesh, sample_mesh)
    for num_bytes in copies.values():
      times.append(speed.lay_out(model(role, mesh), role, num_bytes))
  for stage in sampled:
    part = share(stage, target.processes)
    sampler = model(stage.role, sample_mesh)
    for time in speed.sample(sampler, sample_mesh, part, lms[stage.role]):
      # Processes sample at once: the time is one's, the counts are of all.
      rows, tokens = (target.processes * n for n in (time.rows, time.tokens))
      times.append(time._replace(rows=rows, tokens=tokens))
  for role in phase.recipe.scored:
    scorer = model(role, sample_mesh)
    # Processes read shares, if rows can be divided so.
    divisor = 1 if learned.rows % target.processes else target.processes
    part = learned._replace(rows=learned.rows // divisor)
    time = speed.score(scorer, sample_mesh, role, part)
    rows, tokens = (divisor * n for n in (time.rows, time.tokens))
    times.append(time._replace(rows=rows, tokens=tokens))
  for role in section.train:
    trained = model(role, mesh)
    times.append(speed.update(trained, mesh, role, learned, section))
  return times


def total(times, staleness) -> float:
  """Adds up a step; a stale phase collects beside the update."""
  updates = sum(t.seconds for t in times if t.stage == 'update')
  collect = sum(t.seconds for t in times) - updates
  return max(updates, collect) if staleness else updates + collect
