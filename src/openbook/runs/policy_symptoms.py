"""Symptoms of reinforcement learning: no signal, collapse, entropy, length, mismatch, KL, lost scores.

Each function looks for one and returns None where it finds nothing.
"""

from __future__ import annotations

from statistics import median

from openbook.runs.case import Case, Diagnosis, Severity, Trend, percent, show
from openbook.runs.symptoms import lower_the_rate, spike_after

FEW_TEACH = 0.5
"""Above that, most of the sampling is in vain."""
NONE_TEACH = 0.95
MOSTLY_RIGHT = 0.8
SOLVED = 0.9
"""Accuracy from which groups that agree, and a policy sure of itself, are the goal and no trouble."""
HALF = 0.5
"""What a collapse leaves of the best stretch at most; in healthy runs a stretch keeps 90 % of the best."""
FALL = 0.9
LOUD_ENTROPY, QUIET_ENTROPY = 0.5, 0.01
"""Nats a token: more by 0.5 is a policy becoming random; below 0.01 one token in a thousand is a try."""
QUIET_SHARE = 0.15
"""Of the entropy at first; runs that solve their problems end at a fifth of it."""
MANY_CUT = 0.25
"""Each of them is judged unfinished, and what is learned from a quarter of all is to be shorter."""
MANY_UNSCORED = 0.05
"""In a group of 16 that is nearly one missing in each, and comparisons begin to lean."""
RATIO_GAP = 0.05
"""Mean |log p - log p|: exp of it is NeMo-RL's `token_mult_prob_error`, which it calls bad above 1.05."""
GROWING_GAP = 0.005
"""And ten times the first step's: rounding (in bf16 near 0.01) is there from the first step on, while a
sampler with old weights drifts away."""
FAR_KL = 1.0
"""Nats a token from the reference; healthy runs here stay below 0.5, R1-like ones far below."""
KL_JUMP = 0.3
"""Nats a token within one stretch. Counts beside a fall of reward only: a single odd token does it too."""
MUCH_CLIPPED = 0.3
"""Of the tokens: a clip of 0.2 is meant for the few that move most."""


def few_teach(case: Case) -> Diagnosis | None:
    """Most groups have no variance in reward: all right, all wrong, or alike for another reason."""
    share, unscored = case.now("zero_variance_groups"), case.now("unscored_share") or 0.0
    if share is None or share <= FEW_TEACH or unscored > HALF:
        return None
    accuracy = case.now("accuracy")
    evidence = f"zero_variance_groups {percent(share)}"
    evidence += "" if accuracy is None else f", accuracy {percent(accuracy)}"
    grad = case.now("grad_norm")
    evidence += "" if grad is None else f", grad_norm {show(grad)}"
    severity = Severity.FAULT if share >= NONE_TEACH else Severity.WARNING
    if accuracy is not None and accuracy >= MOSTLY_RIGHT:
        name, severity, what = (
            "all_right",
            Severity.NOTE,
            "most groups are all right: there is little left to learn here",
        )
        mend = "stop here, or give harder problems (the dials of `family`, or a curriculum)"
    elif accuracy is not None and accuracy <= 1 - MOSTLY_RIGHT:
        name, what = (
            "all_wrong",
            "most groups are all wrong, and a group without a difference teaches nothing",
        )
        mend = (
            "give easier problems, or a start that solves some: a cold start, examples in the prompt; "
            "raise num_generations; look at samples, for a parser that finds no answer looks the same"
        )
    else:
        name, what = "all_alike", "in most groups all completions earn the same, so they teach nothing"
        mend = (
            "raise temperature if the completions are alike (entropy tells), num_generations if they are not;"
            " give problems between always and never solved, or turn on dynamic_sampling"
        )
    return Diagnosis(name=name, severity=severity, what=what, evidence=evidence, mend=mend)


def collapse(case: Case) -> Diagnosis | None:
    """Reward, accuracy or format fell to less than half of their best and stayed there."""
    fallen = [trend for name in ("reward", "accuracy", "format") if (trend := _crashed(case, name))]
    if not fallen:
        return None
    peak = fallen[0].peak
    evidence = [f"{one.name} {show(one.best)} at best, {show(one.now)} now" for one in fallen]
    evidence.append(f"best until step {fallen[0].steps[peak - 1]}")
    signs = _signs_of_large_steps(case, peak)
    evidence += signs
    tokens = case.long_trend("mean_completion_tokens")
    if tokens is not None and tokens.now < HALF * tokens.best:
        evidence.append(f"length {show(tokens.best)} -> {show(tokens.now)} tokens")
    entropy = case.long_trend("entropy")
    if entropy is not None:
        at_first = max(entropy.values[0], QUIET_ENTROPY)
        looks = " looks healthy and did not tell" if HALF < entropy.now / at_first < 2 else ""
        evidence.append(f"entropy {show(entropy.values[0])} -> {show(entropy.now)}{looks}")
    return Diagnosis(
        name="collapse",
        severity=Severity.FAULT,
        what="the policy collapsed: what it had learned, or could do from the start, is gone",
        evidence="; ".join(evidence),
        mend="go back to a state before it; lower the learning rate 3 to 10 times; raise beta"
        if signs
        else "the updates were no larger than before: look whether the problems, the reward or the sampler"
        " changed there; if none did, go back to a state before it and lower the learning rate",
    )


def reward_below_start(case: Case) -> Diagnosis | None:
    """Reward stands below where the run began: below the base."""
    reward = case.long_trend("reward")
    if reward is None or not _has_fallen(reward):
        return None
    return Diagnosis(
        name="reward_below_start",
        severity=Severity.WARNING,
        what="reward is below where the run began: the policy is worse than what it started from",
        evidence=f"{reward.show()}, {show(reward.best)} at best",
        mend="lower the learning rate; if problems became harder or rewards stricter, that is the reason",
    )


def rate_too_high(case: Case) -> Diagnosis | None:
    """Reward fell, and the steps were larger than a policy bears."""
    reward = case.long_trend("reward")
    if reward is None or not (_crashed(case, "reward") or _has_fallen(reward)):
        return None
    signs = _signs_of_large_steps(case, reward.peak)
    if not signs:
        return None
    return Diagnosis(
        name="rate_too_high",
        severity=Severity.FAULT,
        what="the learning rate is too high: updates changed the policy more than its samples can tell",
        evidence="; ".join([*signs, reward.show()]),
        mend=lower_the_rate(case),
    )


def entropy_collapse(case: Case) -> Diagnosis | None:
    """The policy tries nothing new, with problems still unsolved."""
    entropy, goal = case.long_trend("entropy"), case.now("accuracy")
    if entropy is None or (goal is not None and goal >= SOLVED):
        return None
    if entropy.now > max(QUIET_ENTROPY, QUIET_SHARE * entropy.begin):
        return None
    return Diagnosis(
        name="entropy_collapse",
        severity=Severity.WARNING,
        what="entropy is gone: the policy says the same every time and finds nothing better",
        evidence=f"{entropy.show()} nats a token" + ("" if goal is None else f", accuracy {percent(goal)}"),
        mend="raise epsilon_high (0.28), entropy_coef, beta, or temperature towards 1; lower the rate; "
        "begin again from a state before the fall, for entropy rarely comes back",
    )


def entropy_explosion(case: Case) -> Diagnosis | None:
    """The policy becomes random."""
    entropy = case.long_trend("entropy")
    if entropy is None:
        return None
    at_first = min(entropy.begin, entropy.values[0])
    if entropy.now < 2 * at_first or entropy.now < at_first + max(LOUD_ENTROPY, entropy.margin):
        return None
    return Diagnosis(
        name="entropy_explosion",
        severity=Severity.WARNING,
        what="entropy explodes: the policy becomes random",
        evidence=f"entropy {show(at_first)} -> {show(entropy.now)} nats a token",
        mend="lower the learning rate, entropy_coef or temperature; raise beta",
    )


def length(case: Case) -> Diagnosis | None:
    """Completions that grow without use, or shrink without gain."""
    tokens, goal = case.long_trend("mean_completion_tokens"), case.goal()
    if tokens is None or goal is None or goal.has_risen:
        return None
    evidence = f"{tokens.show()}; {goal.show()}"
    if tokens.now > max(2 * tokens.begin, tokens.begin + tokens.margin):
        return Diagnosis(
            name="length_explosion",
            severity=Severity.WARNING,
            what=f"completions grew to more than twice their length, and {goal.name} did not rise with them",
            evidence=evidence,
            mend="weigh rewards.length, or look which part of the reward grows with it; a loss that divides "
            "by each completion's length makes long wrong ones cheap (loss_type dr_grpo does not)",
        )
    if tokens.now < min(HALF * tokens.begin, tokens.begin - tokens.margin):
        return Diagnosis(
            name="length_collapse",
            severity=Severity.WARNING,
            what=f"completions shrank to less than half, and {goal.name} did not rise: thinking was given up",
            evidence=evidence,
            mend="look at samples: a reward earned without thinking (format) draws there; weigh accuracy "
            "more, give easier problems, or a start that thinks",
        )
    return None


def truncation(case: Case) -> Diagnosis | None:
    """Many completions run into the limit and are judged unfinished."""
    cut = case.now("truncated_share")
    if cut is None or cut <= MANY_CUT:
        return None
    limit = case.setting("max_tokens")
    return Diagnosis(
        name="truncation",
        severity=Severity.WARNING,
        what="many completions are cut off by the limit, and mostly judged wrong for it",
        evidence=f"truncated_share {percent(cut)}" + ("" if limit is None else f" at max_tokens {limit:.0f}"),
        mend="raise max_tokens, or give a start that ends its answers; mask_truncated_completions keeps them"
        " from teaching that thinking is wrong",
    )


def sampler_mismatch(case: Case) -> Diagnosis | None:
    """Sampler and trainer disagree on the probability of the same tokens under the same weights."""
    gap = case.trend("sampler_gap")
    if gap is None:
        return None
    grown = gap.is_long and gap.now > max(GROWING_GAP, 10 * gap.values[0])
    # Where a rollout is used for several updates, the later ones are meant to differ, and the mean shows it.
    if (case.setting("num_minibatches") or 1) * (case.setting("num_iterations") or 1) > 1:
        grown = False
    if not grown and gap.now < RATIO_GAP:
        return None
    return Diagnosis(
        name="sampler_mismatch",
        severity=Severity.FAULT if grown or gap.now > 4 * RATIO_GAP else Severity.WARNING,
        what="sampler and trainer disagree: "
        + (
            "the sampler drifts away, as one with old weights does"
            if grown
            else "they compute different policies"
        ),
        evidence=f"sampler_gap {show(gap.values[0])} at first, {show(gap.now)} now (mean difference of "
        "log-probabilities; 1e-6 in fp32, up to 0.02 in bf16)",
        mend="check that weights are published before each rollout and that precision, temperature and "
        "tokenizer agree; with experts keep routing_replay on; for rounding set importance_correction",
    )


def kl_runaway(case: Case) -> Diagnosis | None:
    """The policy is far from its reference."""
    kl = case.trend("kl")
    # The estimate has a heavy tail (one token can be worth all others): a median, not a mean.
    if kl is None or median(kl.values[-kl.width :]) < FAR_KL:
        return None
    return Diagnosis(
        name="kl_runaway",
        severity=Severity.WARNING,
        what="the policy has run far away from its reference",
        evidence=f"{kl.show()} nats a token",
        mend=f"raise beta{_setting(case, 'beta')}; lower the learning rate; read samples, for text that no"
        " one would write is what is found out there",
    )


def unscored(case: Case) -> Diagnosis | None:
    """Completions that nobody could judge: timed out, crashed, or not to be scored."""
    share = case.now("unscored_share")
    if share is None or share <= MANY_UNSCORED:
        return None
    mends = {
        "unscored_timed_out": "raise the reward's time limit, or find what makes it hang",
        "unscored_crashed": "mend the reward function: it raised, died, or gave no number",
        "unscored_unscorable": "look at problems whose sealed answer cannot be read",
    }
    parts = {name: case.now(name) or 0.0 for name in mends}
    shown = [f"{name.removeprefix('unscored_')} {percent(part)}" for name, part in parts.items() if part]
    worst = max(parts, key=lambda name: parts[name])
    return Diagnosis(
        name="unscored",
        severity=Severity.FAULT if share > HALF else Severity.WARNING,
        what="many completions have no score; they teach nothing, and others stand for them",
        evidence=f"unscored_share {percent(share)}" + (f": {', '.join(shown)}" if shown else ""),
        mend=mends[worst] if parts[worst] else "look at the reasons with `openbook tasks show` and samples",
    )


def dropped(case: Case) -> Diagnosis | None:
    """Completions that were paid for and left out of the update."""
    share = case.now("dropped_share")
    if share is None or share <= MANY_CUT:
        return None
    return Diagnosis(
        name="dropped",
        severity=Severity.WARNING,
        what="many completions are left out of the update: too old, cut off, or masked by a correction",
        evidence=f"dropped_share {percent(share)}",
        mend="raise max_tokens where they are cut off, max_staleness where they are old; else see to "
        "sampler_gap, which a mask hides and does not mend",
    )


def reward_hacking(case: Case) -> Diagnosis | None:
    """The reward rises while what it stands for falls."""
    for reward_name, true_name in (("reward", "accuracy"), ("reward_preference", "courtesy_gold")):
        reward, true = case.long_trend(reward_name), case.long_trend(true_name)
        if reward is None or true is None or not reward.has_risen or not _has_fallen(true):
            continue
        parts = sorted({name for row in case.rows for name in row if name.startswith("reward_")})
        risen = [name for name in parts if (one := case.long_trend(name)) is not None and one.has_risen]
        return Diagnosis(
            name="reward_hacking",
            severity=Severity.FAULT,
            what=f"{reward_name} rises while {true_name} falls: the policy earns it in another way",
            evidence="; ".join([reward.show(), true.show(), *(f"{name} rises" for name in risen)]),
            mend="lower the weight of the part that rises, attack the reward with `openbook tasks audit`, "
            "or stop earlier",
        )
    return None


def loss_zero(case: Case) -> Diagnosis | None:
    """On policy, a loss near 0 is how the sum comes out; the gradient is not 0."""
    loss, grad = case.trend("loss"), case.now("grad_norm")
    if loss is None or not case.learns_by_reward or not grad or abs(loss.now) > 0.01:
        return None
    if grad <= 1e-4 or (case.now("zero_variance_groups") or 0.0) >= NONE_TEACH:
        return None
    return Diagnosis(
        name="loss_zero",
        severity=Severity.NOTE,
        what="the loss is about 0, and that is right: in a group advantages add up to 0, and before the"
        " first update every ratio is 1. Its gradient is not 0",
        evidence=f"loss {show(loss.now)}, grad_norm {show(grad)}",
        mend="nothing; look at reward, accuracy and grad_norm instead",
    )


def _crashed(case: Case, name: str) -> Trend | None:
    """The trend, if it lost half of its best stretch for good."""
    trend = case.long_trend(name)
    if trend is None or trend.best <= 0:
        return None
    lost = trend.best - trend.now
    return trend if lost > HALF * trend.best and lost > trend.margin else None


def _has_fallen(trend: Trend) -> bool:
    """Whether the end is below the beginning, by a tenth and beyond noise."""
    lost = trend.begin - trend.now
    return lost > (1 - FALL) * max(abs(trend.begin), 1e-9) and lost > trend.margin


def _signs_of_large_steps(case: Case, peak: int) -> list[str]:
    """What an update that is too large leaves in the metrics, from the best stretch on."""
    signs = []
    if spike := spike_after(case.trend("grad_norm"), peak):
        signs.append(f"grad_norm up to {show(spike[1])} after a median of {show(spike[0])}")
    kl = case.trend("kl")
    if kl is not None and len(kl.values) > 1:
        width = kl.width
        jumps = [b - a for a, b in zip(kl.values, kl.values[width:], strict=False)]
        if jumps and max(jumps) > KL_JUMP:
            signs.append(f"kl up by {show(max(jumps))} within {width} steps")
    clipped = case.trend("clipped_share")
    if clipped is not None and max(clipped.values) > MUCH_CLIPPED:
        signs.append(f"up to {percent(max(clipped.values))} of the tokens clipped")
    return signs


def _setting(case: Case, name: str) -> str:
    value = case.setting(name)
    return "" if value is None else f" (now {show(value)})"
