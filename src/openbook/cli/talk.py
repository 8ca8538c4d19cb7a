"""`openbook generate` and `openbook chat`: put a checkpoint to use."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbook.cli.options import CheckpointFolder, Json

if TYPE_CHECKING:
    from openbook.cli.speaker import Said, Speaker
    from openbook.tokens.chat import Message

DEFAULT_MAX_TOKENS = 512

MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", min=1, metavar="N", help="Most tokens to sample. [default: 512, or what fits]"
    ),
]
Temperature = Annotated[
    float, typer.Option("--temperature", min=0.0, metavar="T", help="0 takes the likeliest.")
]
TopP = Annotated[
    float, typer.Option("--top-p", min=0.0, max=1.0, metavar="P", help="Keep this much probability.")
]
TopK = Annotated[int, typer.Option("--top-k", min=0, metavar="K", help="Keep this many tokens; 0 keeps all.")]
ThinkingBudget = Annotated[
    int | None,
    typer.Option("--thinking-budget", min=0, metavar="N", help="Close the thinking after N tokens."),
]
SampleSeed = Annotated[int, typer.Option("--seed", metavar="N", help="Equal seeds give equal texts.")]


def generate(
    checkpoint: CheckpointFolder,
    text: Annotated[str, typer.Argument(metavar="PROMPT", help="The question; - reads it from stdin.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text as it stands, without the template.")
    ] = False,
    num_samples: Annotated[int, typer.Option("--num", "-n", min=1, metavar="N", help="How many texts.")] = 1,
    max_tokens: MaxTokens = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    thinking_budget: ThinkingBudget = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="End where the answer has this text.")
    ] = None,
    seed: SampleSeed = 0,
    as_json: Json = False,
) -> None:
    """Sample texts from a checkpoint, thinking and tags included."""
    from openbook.cli.render import print_json
    from openbook.cli.speaker import Speaker
    from openbook.engine.types import SamplingParams

    question = sys.stdin.read() if text == "-" else text
    speaker = Speaker.open(checkpoint)
    prompt_ids = speaker.prompt_ids(question, raw=raw)
    params = SamplingParams(
        max_tokens=max_tokens or _fitting(speaker, prompt_ids),
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        thinking_budget=thinking_budget,
        stop=tuple(stop or ()),
    )
    said = speaker.say(prompt_ids, params, num_samples=num_samples, seed=seed)
    if as_json:
        print_json(_to_json(speaker, question, said))
        return
    print("\n\n".join(said.texts))
    print(_price_line(said), file=sys.stderr)


def chat(
    checkpoint: CheckpointFolder,
    max_tokens: MaxTokens = None,
    temperature: Temperature = 0.6,
    top_p: TopP = 0.95,
    top_k: TopK = 0,
    thinking_budget: ThinkingBudget = None,
    seed: SampleSeed = 0,
) -> None:
    """Ask a checkpoint, question by question.

    Its thinking is shown dimmed, then the answer and its price. A model with a chat template of its own
    remembers the talk, as much as fits; one that we trained takes each question alone. An empty line or
    Ctrl-D ends the talk.
    """
    from openbook.cli.speaker import Speaker
    from openbook.engine.types import SamplingParams
    from openbook.errors import UserError

    speaker = Speaker.open(checkpoint)
    history: list[Message] = []
    number = 0
    while question := _ask():
        prompt_ids = _fitting_ids(speaker, history, question, max_tokens or DEFAULT_MAX_TOKENS)
        params = SamplingParams(
            max_tokens=max_tokens or _fitting(speaker, prompt_ids),
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            thinking_budget=thinking_budget,
        )
        try:
            said = speaker.say(prompt_ids, params, num_samples=1, seed=seed + number)
        except UserError as error:
            print(
                f"openbook: {error}", file=sys.stderr
            )  # a question too long ends the question, not the talk
            continue
        history += _show_answer(speaker, question, said)
        number += 1


def _fitting_ids(speaker: Speaker, history: list[Message], question: str, max_tokens: int) -> list[int]:
    """The prompt of a question; the oldest exchanges are forgotten until it leaves room for the answer."""
    while history and speaker.room(speaker.prompt_ids(question, history=history)) < max_tokens:
        del history[:2]
    return speaker.prompt_ids(question, history=history)


def _ask() -> str:
    """The next question; empty at the end of the talk."""
    is_person = sys.stdin.isatty()
    if is_person:
        import readline  # noqa: F401

        # importing it is what gives `input` its history and line editing
    try:
        return input("> " if is_person else "").strip()
    except EOFError:
        return ""


def _fitting(speaker: Speaker, prompt_ids: list[int]) -> int:
    return min(DEFAULT_MAX_TOKENS, speaker.room(prompt_ids))


def _show_answer(speaker: Speaker, question: str, said: Said) -> list[Message]:
    """Prints the answer; returns the exchange as the model will remember it, without the thinking."""
    from openbook.tokens.chat import Message

    parsed = speaker.parse(said.texts[0])
    if parsed.thinking:
        print(_dim(parsed.thinking))
    if parsed.well_formed:
        print(parsed.answer)
    else:
        print(parsed.answer or said.texts[0].strip())
        print(_dim(f"(not well formed: {parsed.reason})"))
    print(_dim(_price_line(said)), file=sys.stderr)
    return [Message(role="user", content=question), Message(role="assistant", content=parsed.answer)]


def _price_line(said: Said) -> str:
    from openbook.units import show_seconds, show_usd

    num_tokens = sum(len(one.token_ids) for one in said.completions)
    rate = num_tokens / said.seconds if said.seconds else 0.0
    return (
        f"{num_tokens} tokens in {show_seconds(said.seconds)} ({rate:.0f}/s), {show_usd(said.cost_nano_usd)}"
    )


def _dim(text: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else f"\033[2m{text}\033[0m"


def _to_json(speaker: Speaker, question: str, said: Said) -> dict[str, Any]:
    completions = []
    for text, completion in zip(said.texts, said.completions, strict=True):
        parsed = speaker.parse(text)
        completions.append(
            {
                "text": text,
                "thinking": parsed.thinking,
                "answer": parsed.answer,
                "well_formed": parsed.well_formed,
                "reason": parsed.reason,
                "finish_reason": completion.finish_reason,
                "num_tokens": len(completion.token_ids),
            }
        )
    return {
        "checkpoint": speaker.checkpoint.digest,
        "prompt": question,
        "completions": completions,
        "seconds": said.seconds,
        "cost_nano_usd": said.cost_nano_usd,
    }
