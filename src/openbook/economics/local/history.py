"""Past runs on this machine: what each step and each call took, read from the folders of runs.

    past = read_past_run(run, plan)      lines as work and seconds, and how long completions were
    evidence_of(past)                    what a fit of speeds learns from

A line of usage holds a step of learning when tokens were trained on, and a call of an engine otherwise:
before the first step a harvest, after the last an exam. A probe or a saved state is on the line of the step
after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from openbook.economics.local.speed import Evidence
from openbook.economics.local.stage_work import (
    Lengths,
    Part,
    Tokens,
    call_work,
    sampled_once,
    update_work,
)
from openbook.economics.local.stages import Sampled, StagePlan
from openbook.economics.local.work import Work, saving
from openbook.runs.journal import RunStatus, lost_lines
from openbook.runs.run import Run, UsageLine

BLOCKS = 8
"""Into how many parts a stage's steps are cut for a fit, so that growing lengths show."""
FIRST_STEPS = 3
"""Whose share of right answers says where a policy started."""
PROBE_METRIC = "eval_mean_completion_tokens"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of usage as work, by what it was for."""

    part: Part
    work: Work
    tokens: Tokens
    cpu_seconds: float
    device_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PastRun:
    """A stage that ran: its plan, its lines that count, and the lengths that it showed."""

    run_id: str
    host: str
    device: str
    is_done: bool
    base: str
    """The stage whose model it started from."""
    starts_right: float | None
    """Share of right answers in the first steps of a policy."""
    plan: StagePlan
    lines: tuple[Line, ...]
    lengths: Lengths
    num_steps: int
    peak_memory_bytes: int
    lost_device_seconds: float
    """Of work that a rewind threw away."""
    lost_cpu_seconds: float

    @property
    def cpu_seconds(self) -> float:
        return sum(line.cpu_seconds for line in self.lines)

    @property
    def device_seconds(self) -> float:
        return sum(line.device_seconds for line in self.lines)

    @property
    def tokens(self) -> Tokens:
        total = Tokens()
        for line in self.lines:
            total += line.tokens
        return total

    @property
    def num_threads(self) -> int:
        """How many processors were busy, rounded: nothing else in a run's files says it."""
        return max(1, round(self.cpu_seconds / max(1e-9, self.device_seconds)))

    @property
    def work(self) -> Work:
        """All that was done and kept."""
        return Work.total(line.work for line in self.lines)


def read_past_run(run: Run, plan: StagePlan) -> PastRun:
    """What a run took, line by line. `plan` is what it was told to do."""
    lost = lost_lines(run.journal.rewinds)
    numbered = list(enumerate(run.usage_lines()))
    kept = [line for number, line in numbered if number not in lost]
    thrown = [line for number, line in numbered if number in lost]
    # Only a policy's metrics say more than its usage, and there are as many of them.
    attempts, rows = run.attempts, run.metrics() if plan.rollout is not None else []
    probed = {int(row["step"]): row[PROBE_METRIC] for row in rows if PROBE_METRIC in row}
    right = [row["accuracy"] for row in rows[:FIRST_STEPS] if "accuracy" in row]
    lengths = _lengths(plan, kept, probed)
    return PastRun(
        run_id=run.manifest.id,
        host=run.manifest.host.name,
        device=attempts[-1].device if attempts else "",
        is_done=bool(attempts) and attempts[-1].status is RunStatus.DONE,
        base=next((parent.name for parent in run.manifest.parents if parent.role == "base"), ""),
        starts_right=sum(right) / len(right) if right else None,
        plan=plan,
        lines=tuple(_lines(plan, kept, lengths, probed)),
        lengths=lengths,
        num_steps=sum(1 for line in kept if line.usage.trained_tokens),
        peak_memory_bytes=max((line.usage.peak_memory_bytes for line in kept), default=0),
        lost_device_seconds=sum(line.usage.device_microseconds for line in thrown) / 1e6,
        lost_cpu_seconds=sum(line.usage.cpu_microseconds for line in thrown) / 1e6,
    )


def evidence_of(past: PastRun, *, by_device_time: bool = False) -> list[Evidence]:
    """The stage as evidence: all its steps together weigh as much as all calls of a harvest, or of exams."""
    found = []
    for part in (Part.LEARNING, Part.HARVEST, Part.EXAMS):
        lines = [line for line in past.lines if line.part is part]
        size = -(-len(lines) // BLOCKS) if part is Part.LEARNING else max(1, len(lines))
        blocks = [lines[start : start + size] for start in range(0, len(lines), max(1, size))]
        for block in blocks:
            seconds = sum(line.device_seconds if by_device_time else line.cpu_seconds for line in block)
            if seconds > 0:
                work = Work.total(line.work for line in block)
                found.append(Evidence(work=work, seconds=seconds, weight=1 / len(blocks)))
    return found


def _split(
    plan: StagePlan, lines: Sequence[UsageLine]
) -> tuple[list[UsageLine], list[UsageLine], list[UsageLine]]:
    """Calls of the harvest, steps, calls of exams."""
    steps = [index for index, line in enumerate(lines) if line.usage.trained_tokens]
    if not steps:
        return (list(lines), [], []) if plan.harvest is not None else ([], [], list(lines))
    first, last = steps[0], steps[-1] + 1
    return list(lines[:first]), list(lines[first:last]), list(lines[last:])


def _by_suite(plan: StagePlan, calls: Sequence[UsageLine]) -> list[tuple[Sampled, list[UsageLine]]]:
    """The calls of each suite in their order; what is more than planned belongs to the last."""
    found, start = [], 0
    for number, exam in enumerate(plan.exams, start=1):
        end = len(calls) if number == len(plan.exams) else start + exam.num_calls
        found.append((exam, list(calls[start:end])))
        start = end
    return found


def _lines(
    plan: StagePlan, kept: Sequence[UsageLine], lengths: Lengths, probed: Mapping[int, float]
) -> Iterable[Line]:
    harvest, steps, exams = _split(plan, kept)
    if plan.harvest is not None:
        yield from (_call(Part.HARVEST, plan.harvest, line, lengths) for line in harvest)
    for number, line in enumerate(steps):
        yield _step(plan, number, line, lengths, probed)
    for exam, calls in _by_suite(plan, exams):
        yield from (_call(Part.EXAMS, exam, line, lengths) for line in calls)


def _call(part: Part, one: Sampled, line: UsageLine, lengths: Lengths) -> Line:
    tokens = _tokens(line)
    work = call_work(one, 1, tokens, prompt=lengths.prompt.get(one.label, one.guess.prompt))
    return _line(part, work, tokens, line)


def _step(
    plan: StagePlan, number: int, line: UsageLine, lengths: Lengths, probed: Mapping[int, float]
) -> Line:
    """The step of a line, with what the step before it left to be done: a probe, a saved state."""
    learned = plan.learned
    assert learned is not None, "only what learns has steps"
    tokens = _tokens(line)
    rollout = plan.rollout
    if rollout is None:
        work = update_work(learned, tokens.trained)
    else:
        prompt, completion = lengths.prompt[rollout.label], tokens.completion / rollout.num_sequences
        work = update_work(learned, tokens.trained, rollout, prompt=prompt, completion=completion)
        work += call_work(rollout, 1, tokens, prompt=prompt)
    if plan.probe is not None and number in probed:
        prompt = lengths.prompt.get(plan.probe.label, plan.probe.guess.prompt)
        work += sampled_once(plan.probe, prompt=prompt, completion=probed[number]).work
    if number and number % learned.save_every == 0:
        work += saving(learned.network, 1)
    return _line(Part.LEARNING, work, tokens, line)


def _line(part: Part, work: Work, tokens: Tokens, line: UsageLine) -> Line:
    return Line(
        part=part,
        work=work,
        tokens=tokens,
        cpu_seconds=line.usage.cpu_microseconds / 1e6,
        device_seconds=line.usage.device_microseconds / 1e6,
    )


def _tokens(line: UsageLine) -> Tokens:
    usage = line.usage
    return Tokens(
        trained=usage.trained_tokens, prompt=usage.prompt_tokens, completion=usage.completion_tokens
    )


def _lengths(plan: StagePlan, kept: Sequence[UsageLine], probed: Mapping[int, float]) -> Lengths:
    """The lengths that the lines show; a prompt's is that of all its tokens, found in the cache or not."""
    harvest, steps, exams = _split(plan, kept)
    prompt: dict[str, float] = {}
    completion: dict[str, float] = {}
    occasions = [(exam, calls) for exam, calls in _by_suite(plan, exams)]
    if plan.harvest is not None:
        occasions.append((plan.harvest, harvest))
    for one, calls in occasions:
        if calls:
            num_sequences = max(1, one.num_sequences * len(calls) / one.num_calls)
            prompt[one.label] = sum(_prompt_tokens(line) for line in calls) / num_sequences
            completion[one.label] = sum(line.usage.completion_tokens for line in calls) / num_sequences
    rollout: tuple[float, ...] = ()
    if plan.rollout is not None and steps:
        size = plan.rollout.num_sequences
        rollout = tuple(line.usage.completion_tokens / size for line in steps)
        completion[plan.rollout.label] = sum(rollout) / len(rollout)
        prompt[plan.rollout.label] = sum(map(_prompt_tokens, steps)) / len(steps) / size
    if plan.probe is not None:
        prompt[plan.probe.label] = prompt.get("held_out", plan.probe.guess.prompt)
        if probed:
            completion[plan.probe.label] = sum(probed.values()) / len(probed)
    example = 0.0
    if plan.learned is not None and steps:
        trained = sum(line.usage.trained_tokens for line in steps)
        example = trained / len(steps) / plan.learned.examples_per_step
    return Lengths(example=example, prompt=prompt, completion=completion, rollout=rollout)


def _prompt_tokens(line: UsageLine) -> int:
    return line.usage.prompt_tokens + line.usage.cached_tokens
