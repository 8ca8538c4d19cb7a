"""`openbook price` of what runs here: from the usage of runs, or from a short measurement."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from openbook.cli.shelf import OUT
from openbook.economics.serving.measured import Measurement, TokenTimes, Work, split_times, works_of
from openbook.errors import UserError
from openbook.ledger.prices import Price, PricePlan
from openbook.model.packaged import find_gguf
from openbook.runs.store import find_runs, resolve_run

if TYPE_CHECKING:
    from openbook.cli.speaker import Speaker

LONG_TOKENS = 512
SHORT_TOKENS = 16
NUM_COMPLETION_TOKENS = 128
NUM_SEQUENCES = 8
NUM_ROUNDS = 3


def measurement(source: str, *, measured: bool, prices: Path | None) -> Measurement:
    """Token times of `source`: measured through the engine, or split from the usage lines of a run."""
    plan = PricePlan.load(prices) if prices else PricePlan.default()
    today = datetime.now(UTC).date()
    if measured or find_gguf(Path(source)) is not None:
        return _through_engine(source, plan, today)
    return _from_runs(source, plan, today)


def _from_runs(source: str, plan: PricePlan, today: date) -> Measurement:
    """Of all runs in the folder; of the device that worked longest, if there were several."""
    folder = Path(source) if Path(source).is_dir() else resolve_run(source, OUT).folder
    runs = find_runs(folder, on_broken=lambda error: print(f"left out: {error}", file=sys.stderr))
    found = works_of(runs)
    if not found:
        raise UserError(
            f"{source} sampled nothing that was not trained on meanwhile",
            "measure a checkpoint: openbook price CHECKPOINT --measured",
        )
    device = max(found, key=lambda name: sum(work.device_seconds for work in found[name]))
    how = f"the usage of {len(runs)} {'run' if len(runs) == 1 else 'runs'}, by least squares"
    return _priced(folder.name, device, split_times(found[device]), plan, today, how)


def _through_engine(source: str, plan: PricePlan, today: date) -> Measurement:
    """Long prompts, the same again from the cache, and short prompts with long completions."""
    from openbook.cli.speaker import Speaker

    speaker = Speaker.open(Path(source))
    works = run_workloads(speaker)
    how = f"three workloads of {NUM_SEQUENCES} sequences, {NUM_ROUNDS} rounds after one to warm up"
    name = Path(source).name or source
    return _priced(name, speaker.device_name, split_times(works), plan, today, how)


def run_workloads(speaker: Speaker) -> list[Work]:
    """The three workloads in each of the rounds, with new prompts in each."""
    room = speaker.checkpoint.config.max_position_embeddings
    long = min(LONG_TOKENS, room - 8)
    short = min(SHORT_TOKENS, room // 4)
    completion = min(NUM_COMPLETION_TOKENS, room - short - 1)
    works: list[Work] = []
    for number in range(NUM_ROUNDS + 1):
        prompts = _prompts(speaker, long, number)
        round_works = [
            _timed(speaker, prompts, 1),
            _timed(speaker, prompts, 1),
            _timed(speaker, _prompts(speaker, short, 1000 + number), completion),
        ]
        if number:  # the first round compiles, and fills the caches of the machine
            works += round_works
    return works


def _prompts(speaker: Speaker, num_tokens: int, seed: int) -> list[list[int]]:
    """Tokens drawn evenly: what they say does not change what they cost."""
    import random

    draw = random.Random(seed)
    size = speaker.checkpoint.config.vocab_size
    return [[draw.randrange(size) for _ in range(num_tokens)] for _ in range(NUM_SEQUENCES)]


def _timed(speaker: Speaker, prompts: Sequence[Sequence[int]], num_tokens: int) -> Work:
    import time

    from openbook.engine.types import SamplingParams

    params = SamplingParams(max_tokens=num_tokens, temperature=1.0)
    started = time.perf_counter()
    usage = speaker.engine.generate(prompts, params, num_generations=1, seed=0).usage
    seconds = time.perf_counter() - started
    return Work(
        prompt_tokens=usage.prompt_tokens + usage.recomputed_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        device_seconds=seconds,
    )


def _priced(
    model: str, device: str, times: TokenTimes, plan: PricePlan, today: date, how: str
) -> Measurement:
    price: Price = plan.price(plan.resource_of(device), today)
    if price.unit != "device-hour":
        raise UserError(
            f"the price plan has {price.resource} by {price.unit}",
            "price the time of a device by device-hour",
        )
    return Measurement(
        model=model,
        device=device,
        day=today,
        times=times,
        usd_per_device_hour=price.price_usd,
        price_source=f"{price.source}, from {price.valid_from}",
        how=how,
    )
