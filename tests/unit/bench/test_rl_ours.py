"""Our step as a contestant: the work that was asked for, with every option, and the sampler's time in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from openbook.bench.rl_ours import OurTrainer, PlainTemplate, our_tokenizer
from openbook.bench.rl_work import Options, RLWork, text_of
from openbook.model.transformer import Transformer
from openbook.tokens.renderer import Renderer
from openbook.tokens.tokenizer import BOS, Tokenizer

MakeTiny = Callable[..., Transformer]
PLAIN = Options(
    bf16_sampling=False,
    bf16_training=False,
    shared_prompts=False,
    shared_prompts_in_training=False,
    skip_zero_advantages=False,
)


def the_work(model: Transformer) -> RLWork:
    return RLWork(
        vocab_size=model.config.vocab_size,
        num_problems=2,
        num_generations=4,
        num_rounds=2,
        max_tokens=6,
        prompt_tokens=5,
    )


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # QK norms under autocast
@pytest.mark.parametrize("options", [Options(), PLAIN], ids=["all", "none"])
@pytest.mark.parametrize("gqa", [True, False], ids=["dense", "moe"])
def test_a_step_samples_all_tokens_and_moves_the_weights(
    gqa: bool, options: Options, make_tiny: MakeTiny
) -> None:
    model = make_tiny(gqa=gqa)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainer = OurTrainer(model, the_work(model), options)
    first, second = trainer.step(), trainer.step()
    assert first.num_new_tokens == 8 * 6
    assert 0 < second.sampling_seconds < second.seconds and second.cpu_seconds > 0
    moved = [not torch.equal(before[name], one) for name, one in model.named_parameters()]
    assert sum(moved) > len(moved) / 2


def test_prompts_read_by_each_completion_give_the_same_gradient_as_shared_ones(make_tiny: MakeTiny) -> None:
    models = [make_tiny(gqa=True) for _ in range(2)]
    sharing = replace(PLAIN, shared_prompts=True, shared_prompts_in_training=True)
    for model, options in zip(models, (PLAIN, sharing), strict=True):
        OurTrainer(model, the_work(model), options).step()
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other)


def test_a_plain_template_begins_a_text_and_adds_nothing_else(tokenizer: Tokenizer) -> None:
    renderer = Renderer(tokenizer=tokenizer, template=PlainTemplate(bos_token=BOS))
    assert renderer.prompt_ids("12 + 34") == [tokenizer.bos_id, *tokenizer.encode("12 + 34")]
    assert renderer.parse(" 46 ").answer == " 46 "


def test_the_tokenizer_reads_the_prompts_as_the_peers_do(make_tiny: MakeTiny) -> None:
    work = the_work(make_tiny(gqa=True))
    tokenizer = our_tokenizer(work.vocab_size)
    assert [tokenizer.encode(text_of(prompt)) for prompt in work.prompts(0)] == work.prompts(0)
    assert tokenizer.stop_ids == (work.vocab_size,)
