"""Stage: the reward model for what no rule can verify, trained on pairs of replies (DeepSeek-R1 2.3.4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import torch

from openbook.data.batch import Example
from openbook.data.corpus import Document, to_example
from openbook.model.checkpoint import Checkpoint, save_checkpoint
from openbook.r1.config import RewardModelConfig
from openbook.r1.frame import Frame, Work, stage_checkpoint, tokenizer_of
from openbook.r1.learn import advance_to_end
from openbook.rl.preference import Pair, RewardModel, preference_loss, preference_step
from openbook.runs.durable import replace_text
from openbook.tasks.courtesy import CourtesyFamily, PreferencePair
from openbook.tasks.problem import Split
from openbook.tokens.template import response
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.optim import Optimizers
from openbook.train.state import TrainState

NUM_HELD_OUT_PAIRS = 200
RESULT_FILE = "reward_model.json"


def train_reward_model(
    config: RewardModelConfig, frame: Frame, *, start: Checkpoint, courtesy: CourtesyFamily
) -> Checkpoint:
    """A trunk from `start` with a scalar head that has learned the annotators' pairs."""
    tokenizer = tokenizer_of(start)

    def body(work: Work) -> Checkpoint:
        model = RewardModel(frame.learner(start, with_mtp=False)).to(frame.device).train()
        state = TrainState(model=model, optimizers=Optimizers(model, config.optim))
        advance = preference_step(
            pair_stream(courtesy, config, tokenizer, frame.seed),
            config.optim,
            config.schedule,
            num_steps=config.num_steps,
            pairs_per_step=config.pairs_per_step,
            pad_id=tokenizer.pad_id,
        )
        advance_to_end(work, state, advance, num_steps=config.num_steps, save_every=config.num_steps)
        _write_accuracy(work, model, courtesy, tokenizer)
        checkpoint = save_checkpoint(
            work.run.checkpoint_folder,
            model.trunk,
            provenance={"run_id": work.run.manifest.id, "stage": frame.stage, "parents": [start.digest]},
            extra_files=[tokenizer.save(work.run.folder), model.save_head(work.run.folder)],
        )
        work.run.write_card({"checkpoint": checkpoint.digest, "pairs": config.num_pairs})
        return checkpoint

    return stage_checkpoint(frame, body)


def load_reward_model(checkpoint: Checkpoint, frame: Frame) -> RewardModel:
    """The reward model of a checkpoint, ready to score."""
    model = RewardModel(frame.learner(checkpoint))
    model.load_head(checkpoint.folder)
    return model.to(frame.device).eval()


def pair_stream(
    courtesy: CourtesyFamily, config: RewardModelConfig, tokenizer: Tokenizer, seed: int
) -> Callable[[int, int], Sequence[Pair]]:
    """The training pairs, over and over."""
    pairs = [to_pair(one, tokenizer) for one in courtesy.preference_pairs(seed, config.num_pairs)]
    return lambda position, count: [pairs[one % len(pairs)] for one in range(position, position + count)]


def to_pair(pair: PreferencePair, tokenizer: Tokenizer) -> Pair:
    return Pair(
        chosen=reply_example(pair.question, pair.chosen, tokenizer),
        rejected=reply_example(pair.question, pair.rejected, tokenizer),
    )


def reply_example(question: str, reply: str, tokenizer: Tokenizer) -> Example:
    """A reply as the reward model reads it: the final answer alone, without thinking (R1 Nature, Methods)."""
    return to_example(tokenizer, Document(question=question, response=response("", reply)))


@torch.no_grad()
def _write_accuracy(work: Work, model: RewardModel, courtesy: CourtesyFamily, tokenizer: Tokenizer) -> None:
    held_out = courtesy.preference_pairs(work.frame.seed, NUM_HELD_OUT_PAIRS, Split.HELD_OUT)
    _, accuracy = preference_loss(
        model, [to_pair(one, tokenizer) for one in held_out], pad_id=tokenizer.pad_id
    )
    result = {
        "held_out_pairs": len(held_out),
        "accuracy": float(accuracy),
        "annotator_noise": courtesy.config.annotator_noise,
    }
    replace_text(work.run.folder / RESULT_FILE, json.dumps(result))
    work.frame.progress.note(
        f"reward model: right on {float(accuracy):.0%} of {len(held_out)} held-out pairs"
    )
