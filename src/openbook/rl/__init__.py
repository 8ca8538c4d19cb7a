"""From reward to gradient: rollouts, advantages, the policy loss and its step."""
