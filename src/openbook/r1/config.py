"""The recipes: what each verb can be told. Their sum is the story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from openbook.config import config
from openbook.data.config import ConversationConfig, CorpusConfig, TextConfig
from openbook.engine.config import Decode, Weights
from openbook.evals.config import EvalConfig
from openbook.model.config import ModelConfig
from openbook.rl.config import RLConfig
from openbook.rl.curriculum_config import CurriculumConfig
from openbook.tasks.courtesy import CourtesyConfig
from openbook.tasks.registry import FamilyConfig, MixedConfig
from openbook.tasks.words import Language
from openbook.tokens.renderer import PromptConfig
from openbook.train.config import OptimConfig, ScheduleConfig, TrainConfig


@config
class MachineConfig:
    """Where a run computes."""

    device: str = "auto"
    """`auto` takes one GPU when there is one; `cpu`; `cuda`."""
    num_threads: int = 0
    """Threads of the CPU; 0 means all cores. A resumed run needs the same number to be bit-identical."""
    decode: Decode = "auto"
    """What samples: `native` kernels, the modules in `torch`, or `auto`. A resumed run keeps its choice."""
    exact: bool = True
    """The native kernels compute each completion by itself, bit for bit. Without it, what is sampled beside
    one may change its last bits, and bf16 runs on tiles where there are some; resumed runs stay equal."""
    weights: Weights = "auto"
    """In what the native kernels hold matrices to sample with: `fp32`, `bf16`, or what the model has."""

    def __post_init__(self) -> None:
        if self.num_threads < 0:
            raise ValueError("num_threads must not be negative; 0 means all cores")


@config
class ExamConfig:
    """How a checkpoint is examined: held-out problems as trained on, and harder ones where there are any."""

    family: FamilyConfig
    harder: FamilyConfig | None = None
    others: Mapping[str, FamilyConfig] = field(default_factory=dict)
    """More suites by name: such as a family that no stage is trained on."""
    prompt: PromptConfig = PromptConfig()
    """How its problems are put: as they were in training, or the examination is of something else."""
    sampling: EvalConfig = EvalConfig()
    base_samples: int = 16
    """Completions of each problem where the checkpoint is a base: what it could do, as pass@16."""
    num_kept_samples: int = 24
    """Completions kept as text, to be read in the report."""

    def __post_init__(self) -> None:
        if self.base_samples < 1 or self.num_kept_samples < 0:
            raise ValueError("base_samples must be at least 1, and num_kept_samples at least 0")


@config
class PretrainConfig:
    """A base from nothing: tokenizer, corpus, network."""

    machine: MachineConfig = MachineConfig()
    vocab_size: int = 640
    """Tokens of the tokenizer that is trained; one that is given (`--tokenizer`) keeps its own."""
    model: ModelConfig
    corpus: CorpusConfig | TextConfig
    """What is read: `exercises`, written by a seeded writer, or `text` of your own."""
    train: TrainConfig
    exam: ExamConfig | None = None
    """Problems to examine the base on; text is measured by what is held out of it."""

    def __post_init__(self) -> None:
        _check_vocabulary(self.vocab_size, self.model)
        _refuse_lora(self.train, "train")
        if isinstance(self.corpus, TextConfig):
            longest = min(self.model.max_position_embeddings, self.train.tokens_per_batch)
            if self.corpus.sequence_length > longest:
                raise ValueError(
                    f"corpus.sequence_length is {self.corpus.sequence_length}, more than the {longest} that "
                    "model.max_position_embeddings and train.tokens_per_batch allow"
                )


@config
class ReinforceConfig:
    """Reinforcement learning on problems with a verifier, from any checkpoint."""

    machine: MachineConfig = MachineConfig()
    family: FamilyConfig
    prompt: PromptConfig = PromptConfig()
    rl: RLConfig
    exam: ExamConfig
    curriculum: CurriculumConfig | None = None
    """How often each member of a mixed family is drawn; none takes them by turns."""

    def __post_init__(self) -> None:
        if self.curriculum is None:
            return
        if not isinstance(self.family, MixedConfig):
            raise ValueError(
                f"a curriculum chooses among the members of a family of kind mixed, not {self.family.kind}; "
                "give it its levels as members, or leave the curriculum out"
            )
        self.curriculum.check(len(self.family.members))


@config
class FinetuneConfig:
    """Supervised training on conversations; the loss counts on what the assistant says."""

    machine: MachineConfig = MachineConfig()
    data: ConversationConfig = ConversationConfig()
    train: TrainConfig
    exam: ExamConfig | None = None


@config
class SamplingConfig:
    """How a teacher is sampled and what is kept of it."""

    num_problems: int
    num_generations: int = 4
    temperature: float = 1.0
    max_tokens: int = 128
    min_consistency: float = 0.0
    """The least share of the thinking's number words in the target language."""
    keep_per_problem: int = 1
    language_target: Language = Language.ENGLISH

    def __post_init__(self) -> None:
        if min(self.num_problems, self.num_generations, self.max_tokens, self.keep_per_problem) < 1:
            raise ValueError(
                "num_problems, num_generations, max_tokens and keep_per_problem must be at least 1"
            )
        if self.temperature < 0 or not 0 <= self.min_consistency <= 1:
            raise ValueError("temperature must not be negative, and min_consistency must be 0 to 1")


@config
class DistillConfig:
    """A student learns the checked answers of a teacher; no reinforcement (DeepSeek-R1 2.4)."""

    machine: MachineConfig = MachineConfig()
    family: FamilyConfig
    sampling: SamplingConfig
    train: TrainConfig
    exam: ExamConfig


@config
class SelfTaughtConfig:
    """A supervised stage whose examples an earlier stage has sampled: cold start, rejection sampling."""

    sampling: SamplingConfig
    train: TrainConfig


@config
class RewardModelConfig:
    """A reward model trained on pairs (DeepSeek-R1 2.3.4; Bradley-Terry)."""

    num_pairs: int = 512
    num_steps: int = 60
    pairs_per_step: int = 32
    optim: OptimConfig = OptimConfig(muon_learning_rate=2e-3, adamw_learning_rate=1e-3)
    schedule: ScheduleConfig = ScheduleConfig(warmup_steps=5)

    def __post_init__(self) -> None:
        if min(self.num_pairs, self.num_steps, self.pairs_per_step) < 1:
            raise ValueError("num_pairs, num_steps and pairs_per_step must be at least 1")


@config
class ScenariosConfig:
    """Reinforcement for all scenarios: verified problems, and replies that a learned model scores."""

    rl: RLConfig
    reward_model: RewardModelConfig = RewardModelConfig()
    courtesy: CourtesyConfig = CourtesyConfig()
    courtesy_share: float = 0.25
    """Share of the problems of a step whose reply is scored by the reward model."""

    def __post_init__(self) -> None:
        if not 0 <= self.courtesy_share <= 1:
            raise ValueError("courtesy_share must be 0 to 1")


@config
class StoryConfig:
    """The whole story from nothing, stage by stage."""

    kind: Literal["nano"] = "nano"
    machine: MachineConfig = MachineConfig()
    vocab_size: int = 640
    model: ModelConfig
    student: ModelConfig
    corpus: CorpusConfig
    exam: ExamConfig
    pretrain: TrainConfig
    zero: RLConfig
    cold_start: SelfTaughtConfig
    reasoning_rl: RLConfig
    rejection: SelfTaughtConfig
    all_scenarios: ScenariosConfig
    student_base: TrainConfig
    distill: SelfTaughtConfig
    control: RLConfig
    """The student by reinforcement alone, stopped at the device-seconds that distillation took."""

    def __post_init__(self) -> None:
        _check_vocabulary(self.vocab_size, self.model)
        _check_vocabulary(self.vocab_size, self.student)
        _refuse_lora(self.pretrain, "pretrain")
        _refuse_lora(self.student_base, "student_base")
        if self.exam.harder is None:
            raise ValueError("exam.harder is missing: a story compares its stages on harder problems too")


def _refuse_lora(train: TrainConfig, where: str) -> None:
    if train.lora is not None:
        raise ValueError(f"{where}.lora: a base from nothing has no weights to put adapters beside")


def _check_vocabulary(vocab_size: int, model: ModelConfig) -> None:
    if model.vocab_size < vocab_size:
        raise ValueError(f"the tokenizer has {vocab_size} tokens and a model only {model.vocab_size}")
