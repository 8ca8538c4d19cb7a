"""What the story of a language model from elsewhere can be told."""

from __future__ import annotations

from typing import Literal

from openbook.config import config
from openbook.r1.config import ExamConfig, MachineConfig, SelfTaughtConfig
from openbook.rl.config import RLConfig
from openbook.tasks.registry import FamilyConfig
from openbook.tokens.renderer import PromptConfig


@config
class RealStoryConfig:
    """A model that somebody has trained already learns by reward, and then goes through R1's stages.

    It is no R1-Zero in the paper's sense where its maker has fine-tuned it on conversations: a base has not.
    """

    kind: Literal["real"] = "real"
    machine: MachineConfig = MachineConfig()
    base: str
    """`smollm2`, a GGUF file, or the folder of a checkpoint."""
    family: FamilyConfig
    """What is trained on."""
    exam: ExamConfig
    """What is asked after each stage; where `family` is a mixture each member has a score of its own. Its
    `prompt` is not read: a stage is examined as it was trained."""
    zero_prompt: PromptConfig = PromptConfig(reading="last_number")
    """How the base and zero are asked, and where their answer is read."""
    zero: RLConfig
    cold_start: SelfTaughtConfig
    r1_prompt: PromptConfig = PromptConfig(reading="tags")
    """How the later stages are asked; what they learn from is written in the tags of the R1 prompt."""
    reasoning_rl: RLConfig
