"""Pictures of the page for the manual: python -m tests.reward.review.screenshot DATASET FOLDER.

Writes review.png, review-judge.png (where a judge answered) and review-figures.png, 1280 by 800 pixels. The
label store of the dataset is written to as by anybody who opens the page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from episodes.dataset import Dataset
from reward.review.page import ReviewConfig, make_room
from reward.store import FILE, LabelStore
from tests.reward.review.browsing import chromium, press, ready
from tests.reward.review.serving import served


def main(dataset: Path, folder: Path) -> None:
    """Open every view once."""
    folder.mkdir(parents=True, exist_ok=True)
    data = Dataset.open(dataset)
    with LabelStore(data.path / FILE) as store, sync_playwright() as playwright:
        room = make_room(ReviewConfig(data.path), data, store)
        judges = bool(room.state()["sets"])
        browser = chromium(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        with served(room, title=data.path.name) as address:
            for view in ("answer", "judge", "figures") if judges else ("answer", "figures"):
                page.goto(f"{address}#{view}")
                page.reload()
                ready(page)
                if view == "judge":
                    press(page, "j")
                name = "review.png" if view == "answer" else f"review-{view}.png"
                page.screenshot(path=folder / name)
                print(folder / name)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
