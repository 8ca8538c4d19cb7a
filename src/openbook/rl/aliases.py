"""The names that verl and others have for our settings: what an unknown key in a recipe was meant to be."""

from __future__ import annotations

from collections.abc import Mapping

ALIASES: Mapping[str, str] = {
    "loss_agg_mode": 'it is part of loss_type: "dapo" is token-mean, "grpo" seq-mean-token-mean, '
    '"dr_grpo" seq-mean-token-sum-norm',
    "loss_mode": 'loss_type; vanilla is "dapo" with clip_ratio_c = 3.0',
    "policy_loss": "loss_type",
    "clip_ratio": "epsilon",
    "clip_ratio_low": "epsilon; for cispo cispo_ratio_min = 1 - clip_ratio_low",
    "clip_ratio_high": "epsilon_high; for cispo epsilon_high = 1 + clip_ratio_high",
    "eps_clip": "epsilon",
    "eps_clip_high": "epsilon_high",
    "adv_estimator": 'baseline and scale_rewards; rloo is baseline = "leave_one_out", scale_rewards = "none"',
    "norm_adv_by_std_in_grpo": 'scale_rewards = "group" or "none"',
    "use_kl_loss": 'beta, with kl_in = "loss"',
    "use_kl_in_reward": 'beta, with kl_in = "reward"',
    "kl_coef": "beta",
    "kl_loss_coef": "beta",
    "kl_loss_type": 'kl_estimator; kl is "k1", mse "k2", low_var_kl "k3"',
    "kl_penalty": 'kl_estimator; kl is "k1", mse "k2", low_var_kl "k3"',
    "entropy_coeff": "entropy_coef",
    "filter_groups": "dynamic_sampling",
    "max_num_gen_batches": "max_generation_batches",
    "overlong_buffer": "rewards.length with length_limit_tokens and length_buffer_tokens",
    "overlong_filtering": "mask_truncated_completions",
    "ppo_epochs": "num_iterations",
    "ppo_mini_batch_size": "num_minibatches = num_problems / ppo_mini_batch_size",
    "steps_per_generation": "num_minibatches",
    "bypass_mode": 'old_logprobs = "sampler"',
    "rollout_is": 'importance_correction; token is "token_truncate", sequence "sequence_truncate"',
    "rollout_is_threshold": "importance_cap",
    "rollout_rs": 'importance_correction = "token_mask" or "sequence_mask"',
    "rollout_rs_threshold": "importance_cap, with importance_floor",
    "vllm_importance_sampling_mode": "importance_correction",
    "vllm_importance_sampling_correction": 'importance_correction; off is "none"',
    "vllm_importance_sampling_cap": "importance_cap",
    "vllm_importance_sampling_clip_max": "importance_cap",
    "vllm_importance_sampling_clip_min": "importance_floor",
    "router_replay": "routing_replay",
    "rollout_n": "num_generations",
    "train_batch_size": "num_problems",
    "max_completion_length": "max_tokens",
    "max_response_length": "max_tokens",
}
