"""TRL's GRPOTrainer on the same weights: one step for each question.

    python -m openbook.bench.peers.trl FOLDER WAY NUM_THREADS

Its training loop is not taken apart: a callback waits between two steps until the next one is asked for, so
that a step is everything from one `on_step_end` to the next, what the loop does around it included.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl

from openbook.bench.peers.worker import Questions
from openbook.bench.rl_timing import StepWatch, installed_bytes
from openbook.bench.rl_work import (
    BETAS,
    END,
    LEARNING_RATE,
    MAX_GRAD_NORM,
    MODEL_FOLDER,
    RLWork,
    text_of,
    word_of,
    word_tokenizer,
)

TUNED: dict[str, Any] = {"bf16": False, "gradient_checkpointing": False}
"""Plain fp32 and nothing computed twice."""
WAYS: dict[str, dict[str, Any]] = {
    "tuned": TUNED,
    "tuned-bf16": TUNED | {"bf16": True},
    "defaults": {},
}
BATCH_SIZE = 8
"""Completions of one forward and backward pass: TRL's default, and on a processor its fastest, too."""


class TimedTrainer(trl.GRPOTrainer):  # type: ignore[misc]  # the library is not typed for us
    """The trainer of the library, whose sampling is timed."""

    watch: StepWatch

    def _generate_single_turn(self, *arguments: Any, **named: Any) -> Any:
        with self.watch.sampling():
            return super()._generate_single_turn(*arguments, **named)


class StepByStep(transformers.TrainerCallback):  # type: ignore[misc]
    """Answers a question with the timing of a step, and lets the next begin when the next question comes."""

    def __init__(self, questions: Questions, watch: StepWatch, work: RLWork) -> None:
        self._questions, self._watch, self._work = questions, watch, work
        self._installed_bytes = installed_bytes("trl")

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        self._questions.ready()
        self._wait(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        timing = self._watch.stop(self._work.num_new_tokens)
        self._questions.answer({**asdict(timing), "installed_bytes": self._installed_bytes})
        self._wait(control)

    def _wait(self, control: Any) -> None:
        if self._questions.next() is None:
            control.should_training_stop = True
        self._watch.start()


def make_trainer(folder: Path, way: str, output: Path, watch: StepWatch) -> tuple[TimedTrainer, RLWork]:
    """The trainer of a folder of work, told what ours is told, and `way`'s own settings."""
    work = RLWork.load(folder)
    rows = [
        {"prompt": text_of(prompt), "number": number}
        for round_number in range(-1, work.num_rounds - 1)
        for number, prompt in enumerate(work.prompts(round_number))
    ]

    def reward(completion_ids: list[list[int]], number: list[int], **named: Any) -> list[float]:
        assert all(len(token_ids) == work.max_tokens for token_ids in completion_ids)
        return [
            work.rewards(one, [token_ids])[0] for one, token_ids in zip(number, completion_ids, strict=True)
        ]

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(work.vocab_size), pad_token=word_of(0), eos_token=END
    )
    trainer = TimedTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(
            folder / MODEL_FOLDER, dtype=torch.float32, local_files_only=True
        ),
        reward_funcs=reward,
        args=settings(work, way, output),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.watch = watch
    return trainer, work


def settings(work: RLWork, way: str, output: Path) -> Any:
    """What the work says, and what `way` adds to TRL's defaults."""
    return trl.GRPOConfig(
        output_dir=str(output),
        use_cpu=True,
        max_steps=work.num_rounds,
        num_generations=work.num_generations,
        max_completion_length=work.max_tokens,
        per_device_train_batch_size=BATCH_SIZE,
        gradient_accumulation_steps=work.num_completions // BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        max_grad_norm=MAX_GRAD_NORM,
        lr_scheduler_type="constant",
        loss_type="grpo",
        beta=0.0,
        shuffle_dataset=False,
        save_strategy="no",
        logging_steps=work.num_rounds,
        report_to="none",
        disable_tqdm=True,
        **WAYS[way],
    )


def main(arguments: Sequence[str]) -> None:
    """Answer every question with the timing of one step."""
    folder, way, num_threads = Path(arguments[0]), arguments[1], int(arguments[2])
    torch.set_num_threads(num_threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    watch = StepWatch()
    with Questions.open() as questions, tempfile.TemporaryDirectory(prefix="openbook-trl-") as output:
        trainer, work = make_trainer(folder, way, Path(output), watch)
        trainer.add_callback(StepByStep(questions, watch, work))
        trainer.train()


if __name__ == "__main__":
    main(sys.argv[1:])
