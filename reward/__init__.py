"""Judging pictures: judges, label store, preference reward model, relabelling, quality."""
