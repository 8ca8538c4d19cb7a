"""What a reinforcement-learning stage can be told, under TRL's names where it has one."""

from __future__ import annotations

from openbook.config import config, require_at_least
from openbook.tasks.rewards import RewardConfig
from openbook.train.config import OptimConfig, ScheduleConfig


@config
class RLConfig:
    """GRPO as DeepSeekMath eq. 3 writes it. The defaults that R1's papers leave open are ours.

    One step samples `num_problems` x `num_generations` completions and makes `num_minibatches`
    updates from them, each completion used once.
    """

    num_steps: int
    num_problems: int = 32
    num_generations: int = 16
    """G: completions of one problem, whose rewards are compared with each other."""
    max_tokens: int = 128
    temperature: float = 1.0
    num_minibatches: int = 1
    """Updates per rollout; R1-Zero made 16 (R1 Nature, Methods)."""
    epsilon: float = 0.2
    """Half-width of the clip on the ratio; R1 used 10, which hardly clips."""
    beta: float = 0.001
    """Coefficient of the k3 KL to the reference, in the loss; 0 loads no reference."""
    reference_refresh_steps: int = 400
    """The reference becomes the latest policy after this many steps; 0 keeps the first."""
    balance_weight: float = 1e-4
    """Weight of the sequence-wise expert balance loss."""
    bias_update_rate: float = 1e-3
    """How far an expert's bias moves after each update."""
    rewards: RewardConfig = RewardConfig()
    optim: OptimConfig = OptimConfig(muon_learning_rate=2e-3, adamw_learning_rate=3e-4)
    schedule: ScheduleConfig = ScheduleConfig(warmup_steps=8, decay="none")
    tokens_per_batch: int = 4096
    save_every: int = 20

    def __post_init__(self) -> None:
        require_at_least(
            1,
            num_steps=self.num_steps,
            num_problems=self.num_problems,
            max_tokens=self.max_tokens,
            num_minibatches=self.num_minibatches,
            tokens_per_batch=self.tokens_per_batch,
            save_every=self.save_every,
        )
        require_at_least(0, epsilon=self.epsilon, beta=self.beta)
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0 to explore, not {self.temperature}")
        if self.num_generations < 2:
            raise ValueError(
                f"num_generations is {self.num_generations}; a group needs at least 2 to be compared"
            )
        if self.num_problems % self.num_minibatches:
            raise ValueError(
                f"{self.num_problems} problems, whose groups stay whole, do not divide "
                f"into {self.num_minibatches} minibatches"
            )
