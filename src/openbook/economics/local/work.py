"""Quantities of work: what a machine is asked to do, in terms that mean something on any machine.

    training(network, batch)   ->  Work of a step's update
    sampling(network, calls)   ->  Work of generation

Each term is linear in time: twice the term takes twice as long. So a forecast is a sum of terms times
seconds, and what past runs teach is how many seconds a term takes here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from openbook.economics.local.network import FP32_BYTES, LAUNCHES_OF_MUON, Network

BACKWARD = 2
"""Products of a backward pass, by those of the forward pass it belongs to."""
MAX_RUNNING = 256
"""Sequences that an engine samples at once, unless it is told otherwise."""
MAX_STEP_TOKENS = 1024
BLOCK_TOKENS = 16
"""A prompt is found again in the cache by whole blocks."""
LONGEST_BY_MEAN = 1.5
"""The longest completion of a call by the mean one: 1.3 to 1.9 in the story of nano."""
COPIES = 3
"""Of keys and values where rows are taken apart: gathered, laid out, and scattered on the way back."""
STATE_PASSES = 7
"""Of AdamW: weight, gradient and two moments read, weight and two moments written."""


class Term(StrEnum):
    """A kind of work, and its unit."""

    LAUNCHES = "launches"
    """Recorded operators started, each with its backward pass."""
    PRODUCTS = "products"
    """FLOPs of matrix products in training."""
    SCORES = "scores"
    """FLOPs of attention in training."""
    ACTIVATIONS = "activations"
    """Bytes of what is kept between forward and backward, which element-wise operators move."""
    LOGITS = "logits"
    """Bytes of logits, of which each is normalised and differentiated."""
    MUON = "muon"
    """FLOPs of the products inside Muon."""
    STATE = "state"
    """Bytes that an optimizer moves."""
    EXAMPLES = "examples"
    """Rows written, tokenised, or packed."""
    SAMPLED_PRODUCTS = "sampled_products"
    """FLOPs of matrix products when prompts are read and completions written, attention included."""
    ENGINE_STEPS = "engine_steps"
    """Steps of an engine times layers."""
    SAMPLED_TOKENS = "sampled_tokens"
    """Tokens read or written times layers: norms, rotations, the cache, the choice of experts."""
    SEQUENCES = "sequences"
    """Completions admitted, taken apart and judged."""
    PUBLISHED = "published"
    """Bytes of weights packed for an engine."""
    SAVED = "saved"
    """Bytes of state written to disk."""


_PLACES = {term: place for place, term in enumerate(Term)}


@dataclass(frozen=True, slots=True)
class Work:
    """An amount of each term, in the order of `Term`. `+` adds, `*` repeats."""

    amounts: tuple[float, ...]

    @classmethod
    def of(cls, amounts: dict[Term, float]) -> Work:
        listed = [0.0] * len(_PLACES)
        for term, amount in amounts.items():
            listed[_PLACES[term]] = amount
        return cls(tuple(listed))

    @classmethod
    def total(cls, parts: Iterable[Work]) -> Work:
        """The sum of any number of parts; of none, no work."""
        sums = [0.0] * len(Term)
        for part in parts:
            for index, amount in enumerate(part.amounts):
                sums[index] += amount
        return cls(tuple(sums))

    def __add__(self, other: Work) -> Work:
        return Work.total((self, other))

    def __mul__(self, times: float) -> Work:
        return Work(tuple(amount * times for amount in self.amounts))

    def by_term(self) -> dict[Term, float]:
        return dict(zip(Term, self.amounts, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What one step trains on. A reward model's step and a supervised one differ by what they predict."""

    num_tokens: float
    """That go forward and backward, padding left out."""
    padding: float
    """Positions by tokens, at least 1."""
    row_length: float
    """Tokens that attention may look at from one: of its example, or of its prompt and completion."""
    num_drawn: float
    """Documents or completions, each tokenised or packed; several may share a row."""
    num_targets: float
    """Tokens whose logits are wanted."""
    num_passes: float
    """Batches whose gradients are added up for an update."""
    num_copied: float = 0.0
    """Positions whose keys and values are copied so that a completion stands beside its prompt."""
    num_updates: float = 1.0
    num_reference_passes: float = 0.0
    """Further forward passes over the same tokens, by the reference or for old log-probabilities."""
    products_share: float = 1.0
    """Products by those of full training: adapters leave the gradients of frozen weights out."""


def training(network: Network, batch: Batch) -> Work:
    """One step: forward, backward, update; and what a reference is asked."""
    forwards = 1 + BACKWARD * batch.products_share
    positions = batch.padding * batch.num_tokens
    products = network.product_parameters * positions + network.routed_parameters * batch.num_tokens
    products += network.head_parameters * batch.num_targets
    scores = network.score_flops * positions * batch.row_length * batch.padding
    reference = batch.num_reference_passes
    kept = network.activation_bytes * positions + COPIES * network.key_value_bytes * batch.num_copied
    return Work.of(
        {
            Term.LAUNCHES: batch.num_passes * network.launches * (1 + reference / 3)
            + batch.num_updates * network.muon_matrices * LAUNCHES_OF_MUON / 3,
            Term.PRODUCTS: 2 * products * (forwards + reference),
            Term.SCORES: scores * (forwards + reference),
            Term.ACTIVATIONS: kept * (1 + reference / 3),
            Term.LOGITS: FP32_BYTES
            * network.head_parameters
            / network.width
            * batch.num_targets
            * (1 + reference / 3),
            Term.MUON: network.muon_flops * batch.num_updates,
            Term.STATE: STATE_PASSES * FP32_BYTES * network.num_parameters * batch.num_updates,
            Term.EXAMPLES: batch.num_drawn,
        }
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Calls:
    """What an engine is asked for: `num_calls` times `num_sequences` completions."""

    num_calls: float
    num_sequences: float
    """Of one call."""
    prompt_tokens: float
    """Computed in all calls together; those found in the cache are left out."""
    completion_tokens: float
    """Sampled in all calls together."""
    prompt_length: float
    """Tokens of one prompt, for how far a token looks back."""
    max_tokens: float
    num_published: float = 0.0
    """How often new weights are packed."""


def sampling(network: Network, calls: Calls) -> Work:
    """Prompts read, completions written, taken apart and judged."""
    num_sequences = calls.num_calls * calls.num_sequences
    mean_length = calls.completion_tokens / max(1.0, num_sequences)
    looked_back = calls.prompt_length + mean_length / 2
    parameters = network.product_parameters + network.routed_parameters
    products = 2 * parameters * (calls.prompt_tokens + calls.completion_tokens)
    products += 2 * network.vocab_size * network.width * calls.completion_tokens
    scores = network.cached_score_flops * looked_back * calls.completion_tokens
    return Work.of(
        {
            Term.SAMPLED_PRODUCTS: products + scores,
            Term.ENGINE_STEPS: _engine_steps(calls, mean_length) * network.num_layers,
            Term.SAMPLED_TOKENS: (calls.prompt_tokens + calls.completion_tokens) * network.num_layers,
            Term.SEQUENCES: num_sequences,
            Term.PUBLISHED: FP32_BYTES * network.num_parameters * calls.num_published,
        }
    )


def saving(network: Network, num_saves: float) -> Work:
    """States saved: weights, and about as much again twice for the optimizer."""
    return Work.of({Term.SAVED: 3 * FP32_BYTES * network.num_parameters * num_saves})


def computed_prompt_tokens(*, num_prompts: float, num_generations: float, prompt_length: float) -> float:
    """Tokens of prompts that one call computes: each once, and for latecomers the part block again."""
    num_sequences = num_prompts * num_generations
    late = max(0.0, num_sequences - MAX_RUNNING) / max(1.0, num_sequences)
    followers = num_prompts * (num_generations - 1) * late
    return num_prompts * prompt_length + followers * BLOCK_TOKENS / 2


def _engine_steps(calls: Calls, mean_length: float) -> float:
    """Steps of all calls: until the longest is done, or as many as fill the places that there are."""
    places = min(MAX_RUNNING, max(1.0, calls.num_sequences))
    waves = calls.num_sequences / places
    longest = min(calls.max_tokens, LONGEST_BY_MEAN * mean_length)
    prompts = calls.prompt_tokens / MAX_STEP_TOKENS
    return calls.num_calls * ((waves - 1) * mean_length + longest) + prompts
