"""Named checks of recordings: PASS, WARN or FAIL, each with its figure, its threshold and what to do."""
