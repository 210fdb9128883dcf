"""As in ManiSkill."""
