"""`openbook price` of what runs here: from the usage of runs, or from a short measurement."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from openbook.cli.shelf import OUT
from openbook.economics.serving.measured import Measurement, TokenTimes, split_times, works_of
from openbook.economics.serving.workloads import HOW, measure_works
from openbook.errors import UserError
from openbook.ledger.prices import Price, PricePlan
from openbook.model.packaged import find_gguf
from openbook.runs.store import find_runs, resolve_run
from openbook.runs.usage import Usage


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
    from openbook.cli.speaker import Speaker
    from openbook.engine.types import SamplingParams

    speaker = Speaker.open(Path(source))

    def sample(prompts: Sequence[Sequence[int]], num_tokens: int) -> Usage:
        params = SamplingParams(max_tokens=num_tokens)
        return speaker.engine.generate(prompts, params, num_generations=1, seed=0).usage

    config = speaker.checkpoint.config
    works = measure_works(sample, vocab_size=config.vocab_size, context_tokens=config.max_position_embeddings)
    return _priced(Path(source).name or source, speaker.device_name, split_times(works), plan, today, HOW)


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
