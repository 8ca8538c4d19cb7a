"""Learn two-digit addition by RL, ours and TRL by turns from one supervised start -> a Markdown table.

    python benchmarks/addition.py [--seeds 0 1 2 3 4] [--steps 300] [--only ours|trl] [--out out/addition]
    python benchmarks/addition.py --sweep 3e-5 1e-4 3e-4     # learning rates of both, on seed 0
    python benchmarks/addition.py --read-only                # the table of what is there

The model is the 1.06M of `openbook bench rl`; `12+34=` is read byte by byte and answered by `46`. It is
first taught on the training problems until it has about 45 % of the held-out ones right, greedily. A step of
RL is 8 problems x 8 completions, reward 1 if the sum is right; both sides get the same problems in the same
order, AdamW, and the same number of completions. CPU-seconds are those of the training loop in a process of
its own, imports and examinations left out. What is done is kept in `results.jsonl` and not done again.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from openbook.bench.rl import DENSE_1M
from openbook.data.batch import Example
from openbook.engine.config import EngineConfig
from openbook.engine.speaker import engine_for
from openbook.engine.types import SamplingParams
from openbook.model.checkpoint import Checkpoint, save_checkpoint
from openbook.model.init import initialize
from openbook.model.transformer import Transformer
from openbook.tokens.tokenizer import BOS, EOS, FILE_NAME, PAD, Tokenizer
from openbook.train.config import LossConfig, OptimConfig, ScheduleConfig, TrainConfig
from openbook.train.optim import Optimizers
from openbook.train.state import TrainState
from openbook.train.step import supervised_step

SIDES = ("ours", "trl")
NUM_HELD_OUT = 1000
START_ACCURACY = 0.44
EXAMINED_EVERY = 2
"""Supervised steps between two examinations: near the end a few steps are several points."""
NUM_PROBLEMS, NUM_GENERATIONS, MAX_TOKENS = 8, 8, 5
LEARNING_RATES = {"ours": 3e-6, "trl": 3e-6}
"""The best of 3e-6, 1e-5, 3e-5 and 1e-4 for each side, on seed 0; from 3e-5 on both fall below the start."""
PROBLEMS_SEED = 20

Sum = tuple[int, int]


@functools.cache
def all_sums() -> tuple[list[Sum], list[Sum]]:
    """Training and held-out problems, apart, the same in every run."""
    sums = [(one, other) for one in range(10, 100) for other in range(10, 100)]
    random.Random(PROBLEMS_SEED).shuffle(sums)
    return sums[NUM_HELD_OUT:], sums[:NUM_HELD_OUT]


def drawn(seed: int, position: int, count: int) -> list[Sum]:
    """The problems of a stream from `position` on."""
    train = all_sums()[0]
    return [random.Random(f"{seed} {position + index}").choice(train) for index in range(count)]


def question(problem: Sum) -> str:
    return f"{problem[0]}+{problem[1]}="


def reward(text: str, answer: str) -> float:
    """1 if the completion says the sum and nothing else."""
    return float(text.strip() == answer)


def make_tokenizer() -> Tokenizer:
    """Bytes alone: no pair of digits is ever one token."""
    return Tokenizer.train(map(question, all_sums()[0]), vocab_size=256 + 7)


def accuracy(model: Transformer, tokenizer: Tokenizer) -> float:
    """The share of held-out sums that the model gets right, greedily."""
    held_out = all_sums()[1]
    engine = engine_for(model.eval(), tokenizer, EngineConfig())
    prompts = [[tokenizer.bos_id, *tokenizer.encode(question(problem))] for problem in held_out]
    params = SamplingParams(max_tokens=MAX_TOKENS, temperature=0.0)
    answers = engine.generate(prompts, params, num_generations=1, seed=0).completions
    right = [
        reward(tokenizer.decode(one[0].token_ids), str(sum(problem)))
        for one, problem in zip(answers, held_out, strict=True)
    ]
    return statistics.fmean(right)


def make_start(folder: Path) -> None:
    """Teach random weights until they reach the start's accuracy, and write the checkpoint."""
    tokenizer, train = make_tokenizer(), all_sums()[0]
    model = Transformer(DENSE_1M)
    initialize(model, DENSE_1M, torch.Generator().manual_seed(0))
    config = TrainConfig(
        num_steps=100_000,
        examples_per_step=512,
        tokens_per_batch=8192,
        optim=OptimConfig(matrix_optimizer="adamw", adamw_learning_rate=3e-4),
        schedule=ScheduleConfig(warmup_steps=20, decay="none"),
        loss=LossConfig(mtp_weight=0.0, balance_weight=0.0, bias_update_rate=0.0),
    )

    def draw(position: int, count: int) -> list[Example]:
        return [lesson(tokenizer, random.Random(position + index).choice(train)) for index in range(count)]

    state = TrainState(model=model.train(), optimizers=Optimizers(model, config.optim))
    advance = supervised_step(draw, config, pad_id=tokenizer.pad_id)
    reached = 0.0
    while reached < START_ACCURACY:
        for _ in range(EXAMINED_EVERY if reached > START_ACCURACY / 3 else 20 * EXAMINED_EVERY):
            advance(state)
        reached = accuracy(model, tokenizer)
        model.train()
        print(f"supervised step {state.step}: {100 * reached:.1f} % held out", file=sys.stderr, flush=True)
    ids = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    extra = [tokenizer.save(folder.with_name("tokenizer"))]
    save_checkpoint(folder, model.eval(), provenance={"accuracy": reached}, extra_files=extra, token_ids=ids)


def lesson(tokenizer: Tokenizer, problem: Sum) -> Example:
    """A problem with its answer, which alone is learned."""
    prompt = [tokenizer.bos_id, *tokenizer.encode(question(problem))]
    answer = [*tokenizer.encode(str(sum(problem))), tokenizer.eos_id]
    return Example(token_ids=(*prompt, *answer), weights=(*(0.0 for _ in prompt), *(1.0 for _ in answer)))


def train_ours(start: Path, seed: int, num_steps: int, learning_rate: float) -> tuple[Transformer, float]:
    """The model after RL with our trainer, and the CPU-seconds of its loop."""
    from openbook.bench.rl_ours import PlainTemplate
    from openbook.rl.config import RLConfig
    from openbook.rl.step import Environment, policy_step
    from openbook.rl.types import Attempt, Scored
    from openbook.tasks.problem import Outcome, Problem, Split, Verdict
    from openbook.tasks.rewards import RewardParts
    from openbook.tokens.renderer import Renderer

    tokenizer, model = Tokenizer.load(start), Checkpoint.open(start).load()

    def draw(position: int, count: int) -> list[Problem]:
        return [
            Problem(
                id=f"addition/{position + number}",
                family="addition",
                split=Split.TRAIN,
                question=question(problem),
                answer=str(sum(problem)),
                difficulty=1,
            )
            for number, problem in enumerate(drawn(seed, position, count))
        ]

    def score(attempts: Sequence[Attempt]) -> list[Scored]:
        return [score_one(attempt) for attempt in attempts]

    def score_one(attempt: Attempt) -> Scored:
        value = reward(attempt.text, attempt.problem.answer)
        outcome = Outcome.CORRECT if value else Outcome.WRONG
        parts = RewardParts(parts={"accuracy": value}, scored=True, reason="")
        return Scored(verdict=Verdict(outcome=outcome, reason=""), reward=parts)

    config = RLConfig(
        num_steps=num_steps,
        num_problems=NUM_PROBLEMS,
        num_generations=NUM_GENERATIONS,
        max_tokens=MAX_TOKENS,
        loss_type="dapo",
        beta=0.0,
        reference_refresh_steps=0,
        balance_weight=0.0,
        bias_update_rate=0.0,
        optim=OptimConfig(
            matrix_optimizer="adamw", adamw_learning_rate=learning_rate, beta2=0.999, max_grad_norm=1.0
        ),
        schedule=ScheduleConfig(warmup_steps=0, decay="none"),
    )
    engine = engine_for(model, tokenizer, EngineConfig(max_running=NUM_PROBLEMS * NUM_GENERATIONS))
    renderer = Renderer(tokenizer=tokenizer, template=PlainTemplate(bos_token=BOS))
    environment = Environment(draw=draw, scorer=score, renderer=renderer, seed=seed)
    advance = policy_step(config, environment, engine)
    began = time.process_time()  # TRL makes its optimizer in its loop, too
    state = TrainState(model=model.train(), optimizers=Optimizers(model, config.optim))
    for _ in range(num_steps):
        report = advance(state)
        if state.step % 50 == 0:
            print(
                f"ours {seed}: step {state.step}: {report.metrics['reward']:.3f}", file=sys.stderr, flush=True
            )
    return model, time.process_time() - began


def train_trl(start: Path, seed: int, num_steps: int, learning_rate: float) -> tuple[Transformer, float]:
    """The model after RL with TRL, tuned for a processor, and the CPU-seconds of its loop."""
    import datasets
    import transformers
    import trl

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(start / FILE_NAME), bos_token=BOS, eos_token=EOS, pad_token=PAD
    )
    problems = drawn(seed, 0, num_steps * NUM_PROBLEMS)
    rows = [{"prompt": BOS + question(problem), "answer": str(sum(problem))} for problem in problems]

    def score(completions: list[str], answer: list[str], **named: Any) -> list[float]:
        return list(map(reward, completions, answer))

    output = start.with_name(f"trl-{seed}-{learning_rate}")
    batch = NUM_PROBLEMS * NUM_GENERATIONS
    trainer = trl.GRPOTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32),
        reward_funcs=score,
        args=trl.GRPOConfig(
            output_dir=str(output),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            max_steps=num_steps,
            num_generations=NUM_GENERATIONS,
            max_completion_length=MAX_TOKENS,
            per_device_train_batch_size=batch,
            learning_rate=learning_rate,
            lr_scheduler_type="constant",
            loss_type="dapo",
            beta=0.0,
            seed=seed,
            shuffle_dataset=False,
            save_strategy="no",
            logging_steps=50,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    began = time.process_time()
    with contextlib.redirect_stdout(sys.stderr):  # it prints its log
        trainer.train()
    cpu_seconds = time.process_time() - began
    trainer.model.save_pretrained(output)
    return Checkpoint.open(output).load(), cpu_seconds


def train_once(side: str, out: Path, seed: int, num_steps: int, learning_rate: float) -> dict[str, Any]:
    """One run in this process, examined at its end."""
    torch.set_num_threads(1)
    train = train_ours if side == "ours" else train_trl
    began = time.perf_counter()
    model, cpu_seconds = train(out / "start", seed, num_steps, learning_rate)
    return {
        "side": side,
        "seed": seed,
        "steps": num_steps,
        "learning_rate": learning_rate,
        "accuracy": accuracy(model, Tokenizer.load(out / "start")),
        "cpu_seconds": cpu_seconds,
        "seconds": time.perf_counter() - began,
    }


def run_once(side: str, out: Path, seed: int, num_steps: int, learning_rate: float) -> None:
    """One run in a process of its own, unless it is among the results already."""
    key = {"side": side, "seed": seed, "steps": num_steps, "learning_rate": learning_rate}
    if any(key.items() <= result.items() for result in results(out)):
        return
    command = [sys.executable, __file__, "--out", str(out), "--steps", str(num_steps), "--seeds", str(seed)]
    command += ["--only", side, "--rate", str(learning_rate), "--here"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    with (out / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(done.stdout.strip().splitlines()[-1] + "\n")


def results(out: Path) -> list[dict[str, Any]]:
    path = out / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(found: list[dict[str, Any]], start_accuracy: float) -> str:
    """Markdown: means and standard errors over the seeds of each side, number of steps and rate."""
    lines = [
        f"Held out, greedy, before RL: {100 * start_accuracy:.1f} %",
        "",
        "| | steps | learning rate | seeds | accuracy, % | CPU-seconds |",
        "|---|---|---|---|---|---|",
    ]
    keys = sorted({(one["steps"], one["side"], one["learning_rate"]) for one in found})
    for steps, side, rate in keys:
        runs = [
            one for one in found if (one["steps"], one["side"], one["learning_rate"]) == (steps, side, rate)
        ]
        right = mean_and_error([100 * one["accuracy"] for one in runs])
        cpu = mean_and_error([one["cpu_seconds"] for one in runs])
        lines.append(f"| {side} | {steps} | {rate:g} | {len(runs)} | {right} | {cpu} |")
    return "\n".join(lines)


def mean_and_error(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1f}"
    return f"{statistics.fmean(values):.1f} +- {statistics.stdev(values) / len(values) ** 0.5:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", choices=SIDES)
    parser.add_argument("--out", type=Path, default=Path("out/addition"))
    parser.add_argument("--sweep", type=float, nargs="+", default=[], metavar="RATE")
    parser.add_argument("--rate", type=float, help="learning rate instead of each side's own")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out, sides = arguments.out, [arguments.only] if arguments.only else list(SIDES)
    if arguments.here:
        print(json.dumps(train_once(sides[0], out, arguments.seeds[0], arguments.steps, arguments.rate)))
        return
    if not (out / "start").exists():
        make_start(out / "start")
    seeds = arguments.seeds[:1] if arguments.sweep else arguments.seeds
    for seed in [] if arguments.read_only else seeds:
        for rate in arguments.sweep or [arguments.rate]:
            for side in sides:
                run_once(side, out, seed, arguments.steps, rate or LEARNING_RATES[side])
    print(table(results(out), Checkpoint.open(out / "start").provenance["accuracy"]))


if __name__ == "__main__":
    main()
