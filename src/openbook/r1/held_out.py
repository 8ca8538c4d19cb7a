"""Measuring on what is held out of a person's own data, for which there are no problems to be examined on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from openbook.data.batch import Example
from openbook.model.transformer import Transformer
from openbook.r1.frame import HELD_OUT_FILE, Work
from openbook.r1.learn import Watch
from openbook.runs.durable import replace_text
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.config import TrainConfig
from openbook.train.held_out import held_out_loss


def watch_held_out(
    work: Work,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    config: TrainConfig,
    *,
    every: int,
    num_bytes: int = 0,
) -> Watch:
    """The loss on `examples` every so many steps; the last one is written into the run.

    `num_bytes` is the length of the text that the weighted tokens spell, where there is such a text.
    """

    def measure(model: Transformer) -> Mapping[str, float]:
        loss = held_out_loss(
            model, examples, tokens_per_batch=config.tokens_per_batch, pad_id=tokenizer.pad_id
        )
        measured = {"loss": loss.per_token, "perplexity": math.exp(loss.per_token)}
        if num_bytes:
            measured["bits_per_byte"] = loss.bits_per_byte(num_bytes)
        sizes = {"num_tokens": loss.num_tokens, "num_bytes": num_bytes}
        replace_text(work.run.folder / HELD_OUT_FILE, json.dumps({**measured, **sizes}))
        return {f"held_out_{name}": value for name, value in measured.items()}

    return Watch(every=every, measure=measure)
