"""Usage: what a piece of work consumed, in integers, so that sums are exact."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Quantities consumed; `+` adds them (peak memory takes the larger).

    Tokens are counted by kind: `prompt_tokens` were computed as input of a sampler, `cached_tokens`
    were input found in a cache, `completion_tokens` were sampled, of which `thinking_tokens` as
    thinking and the others as answer; `rejected_tokens` were guessed and computed in vain,
    `recomputed_tokens` had to be computed once more for want of memory; `trained_tokens` went
    forward and backward. `device_microseconds` is the time one
    device (the host CPU, or one GPU) was held; `cpu_microseconds` is processor time of
    the process over all threads. `energy_microjoules` is what a meter showed; 0 where there is none.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    thinking_tokens: int = 0
    rejected_tokens: int = 0
    recomputed_tokens: int = 0
    trained_tokens: int = 0
    device_microseconds: int = 0
    cpu_microseconds: int = 0
    peak_memory_bytes: int = 0
    energy_microjoules: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            thinking_tokens=self.thinking_tokens + other.thinking_tokens,
            rejected_tokens=self.rejected_tokens + other.rejected_tokens,
            recomputed_tokens=self.recomputed_tokens + other.recomputed_tokens,
            trained_tokens=self.trained_tokens + other.trained_tokens,
            device_microseconds=self.device_microseconds + other.device_microseconds,
            cpu_microseconds=self.cpu_microseconds + other.cpu_microseconds,
            peak_memory_bytes=max(self.peak_memory_bytes, other.peak_memory_bytes),
            energy_microjoules=self.energy_microjoules + other.energy_microjoules,
        )
