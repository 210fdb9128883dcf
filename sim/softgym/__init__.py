"""Equivalents of SoftGym's tasks on position-based dynamics, drawn by MuJoCo. They are not SoftGym: sizes,
dynamics and numbers differ from FleX's; docs/softgym.md says in what."""
