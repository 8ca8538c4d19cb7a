"""From a verb to what its recipes are checked against."""

from __future__ import annotations

from openbook.config import Schema
from openbook.economics.plan.recipe import PlanConfig
from openbook.r1.config import DistillConfig, FinetuneConfig, PretrainConfig, ReinforceConfig, StoryConfig
from openbook.r1.real_config import RealStoryConfig

SCHEMAS: dict[str, Schema] = {
    "run": (StoryConfig, RealStoryConfig),
    "pretrain": PretrainConfig,
    "rl": ReinforceConfig,
    "sft": FinetuneConfig,
    "distill": DistillConfig,
    "plan": PlanConfig,
}
"""Of a story there are several kinds; without `kind` it is the one from nothing."""
