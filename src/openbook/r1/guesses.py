"""How long prompts, completions and examples will be, guessed from a recipe where no run has shown it yet.

A few problems are drawn and their text is measured; how much text a token covers was measured once with the
tokenizers of the stories.
"""

from __future__ import annotations

from openbook.data.config import CorpusConfig
from openbook.economics.local.stages import Guess
from openbook.tasks.chain import ChainConfig
from openbook.tasks.code import CodeConfig
from openbook.tasks.countdown import CountdownConfig
from openbook.tasks.courtesy import CourtesyConfig
from openbook.tasks.problem import Split
from openbook.tasks.registry import FamilyConfig, MixedConfig, make_family
from openbook.tokens.renderer import PromptConfig
from openbook.tokens.template import prompt

CHARACTERS_PER_TOKEN = 3.0
"""Of prompts, with the small tokenizers of the stories and with large ones on arithmetic alike."""
NUM_DRAWN = 8
QUESTION_CHARACTERS = 60
"""Of families that are not drawn here: those of files, and of a library that takes seconds to start."""
TOKENS_OF_TAGS = 8
"""What a reply in tags has besides its thinking."""
TOKENS_PER_OPERATION = 4.5
"""Of one step of a chain written out: `b +4 = seven,`."""
SHORTEST_SHARE = 0.15
"""Of the token limit: the shortest mean completion to be expected of an unknown family."""


AT_ONCE, TAUGHT = 0.15, 0.95
"""How far a mean completion is on the way from an answer at once to one with every step: of a base, and of
what has been taught."""


def guess_of(family: FamilyConfig, asked: PromptConfig, max_tokens: int, share: float = TAUGHT) -> Guess:
    """Tokens of a prompt and of a completion, by the `share` of the steps that are written out."""
    match family:
        case MixedConfig():
            members = [guess_of(member, asked, max_tokens, share) for member in family.members.values()]
            return Guess(
                prompt=sum(one.prompt for one in members) / len(members),
                completion=sum(one.completion for one in members) / len(members),
                low=min(one.low for one in members),
                high=max(one.high for one in members),
            )
        case ChainConfig():
            operations = (family.min_operations + family.max_operations) / 2 + 1
            low = float(TOKENS_OF_TAGS)
            high = min(float(max_tokens), TOKENS_OF_TAGS + TOKENS_PER_OPERATION * operations)
        case CourtesyConfig():
            low, high = 10.0, 25.0
        case _:
            low, high = SHORTEST_SHARE * max_tokens, float(max_tokens)
    return Guess(
        prompt=_prompt_tokens(family, asked), completion=low + share * (high - low), low=low, high=high
    )


def example_tokens(corpus: CorpusConfig) -> float:
    """Tokens of one document of the written corpus: a prompt, and an answer whose steps are there or not."""
    guess = guess_of(corpus.exercises, PromptConfig(), 1 << 30)
    full = corpus.worked_share * 0.6 + corpus.drill_share
    rest = 1 - corpus.worked_share - corpus.drill_share
    full += rest * (corpus.full_share + corpus.sketch_share / 2)
    return guess.prompt + guess.low + full * (guess.high - guess.low)


def _prompt_tokens(family: FamilyConfig, asked: PromptConfig) -> float:
    before = sum(len(shot.question) + len(shot.reply) for shot in asked.shots) + len(asked.system)
    if not isinstance(family, ChainConfig | CountdownConfig | CourtesyConfig | CodeConfig):
        characters = float(QUESTION_CHARACTERS)
    else:
        drawn = make_family(family)
        texts = [drawn.problem(0, Split.TRAIN, index).question for index in range(NUM_DRAWN)]
        characters = sum(map(len, texts)) / NUM_DRAWN
    return (before + characters + len(prompt(""))) / CHARACTERS_PER_TOKEN
