"""Judges: who says which of two pictures shows more progress. One file each, SDKs imported lazily."""
