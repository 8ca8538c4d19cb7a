"""What a stage sets out to do, as far as its cost goes: how often it learns and samples, with which networks.

The lengths of what is written are no part of a plan: they come from past runs, or from a guess that stands
in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from openbook.economics.local.network import Network


class Learning(StrEnum):
    """From what a stage learns."""

    EXAMPLES = "examples"
    REWARD = "reward"
    PAIRS = "pairs"


class Occasion(StrEnum):
    """For what a stage samples."""

    ROLLOUT = "rollout"
    HARVEST = "harvest"
    PROBE = "probe"
    EXAM = "exam"


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """Tokens of a prompt and of a completion, where no run has shown them; the truth is `low` to `high`.

    Of a policy `completion` is where it starts, and `high` where it ends if it learns for long.
    """

    prompt: float
    completion: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """One occasion of sampling: `num_problems` prompts with `num_generations` completions each."""

    occasion: Occasion
    label: str
    """The suite of an exam; else the occasion again."""
    problems: str
    """Names the family and its dials, so that runs on the same problems are known."""
    network: Network
    num_problems: int
    num_generations: int
    problems_per_call: int
    max_tokens: int
    guess: Guess

    @property
    def num_calls(self) -> int:
        return -(-self.num_problems // self.problems_per_call)

    @property
    def num_sequences(self) -> int:
        return self.num_problems * self.num_generations


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """What a stage learns: `num_steps` updates of a network, each from so many examples or rollouts."""

    learning: Learning
    network: Network
    num_steps: int
    examples_per_step: int
    """Documents, completions, or replies of pairs."""
    tokens_per_batch: int
    save_every: int
    data: str
    """Names what is read, so that runs that read the same are known."""
    guess_example_tokens: float
    spread: float
    """How much longer than the mean the longest row is, relative to it: a batch is padded to its longest."""
    num_updates: int = 1
    """Of one step: iterations times minibatches."""
    num_iterations: int = 1
    num_reference_passes: int = 0
    products_share: float = 1.0
    shares_prompts: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """One stage of a recipe, or the whole of a recipe of one stage."""

    name: str
    verb: str
    learned: Learned | None
    rollout: Sampled | None = None
    harvest: Sampled | None = None
    probe: Sampled | None = None
    probe_every: int = 0
    exams: tuple[Sampled, ...] = ()
    base: str = ""
    """The stage whose model this one starts from; "" where it starts from nothing, or nobody knows."""
    starts_at: float | None = None
    """Mean length of that model's completions on held-out problems, where it was examined."""
    starts_right: float | None = None
    """Share of them that is right."""
    budget_of: str = ""
    """The stage whose device time of learning this one may not exceed; "" sets no limit."""
    memory_bytes: int = 0
    """Weights, gradients, optimizer and activations at the largest step."""
    settings: Mapping[str, int] = field(default_factory=dict)
    """What a claim of extrapolation is about: steps, examples of a step, parameters."""
