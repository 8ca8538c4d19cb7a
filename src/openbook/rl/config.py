"""What a reinforcement-learning stage can be told, under TRL's names where it has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from openbook.config import config, require_at_least
from openbook.model.lora_config import LoraConfig
from openbook.rl.aliases import ALIASES
from openbook.rl.objective import ObjectiveConfig
from openbook.tasks.rewards import RewardConfig
from openbook.train.config import OptimConfig, Precision, ScheduleConfig, require_adamw


@config
class RLConfig(ObjectiveConfig):
    """GRPO as DeepSeekMath eq. 3 writes it. The defaults that R1's papers leave open are ours.

    One step samples `num_problems` x `num_generations` completions and makes `num_iterations` x
    `num_minibatches` updates from them.
    """

    ALIASES: ClassVar[Mapping[str, str]] = ALIASES

    num_steps: int
    num_problems: int = 32
    num_generations: int = 16
    """G: completions of one problem, whose rewards are compared with each other."""
    max_tokens: int = 128
    temperature: float = 1.0
    dynamic_sampling: bool = False
    """Replace groups whose rewards are all equal by drawing more problems (DAPO)."""
    max_generation_batches: int = 10
    """How often a step may sample for that; what is missing then is filled with groups of equal rewards."""
    num_minibatches: int = 1
    """Updates per pass over a rollout; R1-Zero made 16 (R1 Nature, Methods)."""
    num_iterations: int = 1
    """mu: passes over a rollout (DeepSeekMath, algorithm 1)."""
    mask_truncated_completions: bool = False
    """Completions that the token limit cut off have no loss (DAPO's overlong filter)."""
    max_staleness: int | None = None
    """Completions with a token older than so many policies get the advantage 0; none sets no bound."""
    skip_zero_advantages: bool = True
    """Leave rows of advantage 0 out of the update where nothing is learned from them: the same gradient."""
    share_prompts: bool = True
    """A prompt is read once for several completions of its group: the same gradient from fewer tokens.

    Of what is measured by token, the expert loads and the balance loss, each prompt counts fewer times.
    """
    precision: Precision = "auto"
    """Of the products: `fp32`, `bf16`, or bf16 on a GPU alone."""
    routing_replay: bool = True
    """The trainer's experts are those that the sampler chose (R3, arXiv 2510.11370)."""
    reference_refresh_steps: int = 400
    """The reference becomes the latest policy after this many steps; 0 keeps the first."""
    balance_weight: float = 1e-4
    """Weight of the sequence-wise expert balance loss."""
    bias_update_rate: float = 1e-3
    """How far an expert's bias moves after each update."""
    rewards: RewardConfig = RewardConfig()
    lora: LoraConfig | None = None
    """Train low-rank adapters beside frozen weights; none trains every weight."""
    optim: OptimConfig = OptimConfig(muon_learning_rate=2e-3, adamw_learning_rate=3e-4)
    schedule: ScheduleConfig = ScheduleConfig(warmup_steps=8, decay="none")
    tokens_per_batch: int = 4096
    save_every: int = 20

    def __post_init__(self) -> None:
        ObjectiveConfig.__post_init__(self)  # super() does not know a class with slots
        require_at_least(
            1,
            num_steps=self.num_steps,
            num_problems=self.num_problems,
            max_tokens=self.max_tokens,
            max_generation_batches=self.max_generation_batches,
            num_minibatches=self.num_minibatches,
            num_iterations=self.num_iterations,
            tokens_per_batch=self.tokens_per_batch,
            save_every=self.save_every,
        )
        require_at_least(0, max_staleness=self.max_staleness or 0)
        require_adamw(self.lora, self.optim)
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0 to explore, not {self.temperature}")
        if self.num_generations < 2:
            raise ValueError(
                f"num_generations is {self.num_generations}; a group needs at least 2 to be compared"
            )
        if self.num_problems % self.num_minibatches:
            raise ValueError(
                f"{self.num_problems} problems, whose groups stay whole, do not divide "
                f"into {self.num_minibatches} minibatches: "
                f"{self.num_problems} / {self.num_minibatches} = {self.num_problems / self.num_minibatches:g}"
            )
        if self.max_tokens >= self.tokens_per_batch:
            raise ValueError(
                f"a completion of max_tokens = {self.max_tokens} behind a prompt of at least one token is "
                f"{self.max_tokens + 1} or more, and tokens_per_batch = {self.tokens_per_batch}"
            )
        if self.max_generation_batches != 10 and not self.dynamic_sampling:
            raise ValueError(
                f"max_generation_batches is {self.max_generation_batches}, but dynamic_sampling is off"
            )
