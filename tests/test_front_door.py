"""The front door: every verb explains itself, mistakes get one message and exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import armchair
from armchair import BENCHES, SUBVERBS, VERBS, main

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "words",
    [[verb] for verb in VERBS] + [["bench", name] for name in BENCHES] + [list(words) for words in SUBVERBS],
)
def test_every_verb_has_a_help_page(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    page = capsys.readouterr().out
    assert f"usage: armchair {' '.join(words)}" in page
    assert len(page.splitlines()) > 8


def test_the_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    page = capsys.readouterr().out
    assert all(verb in page for verb in VERBS)


def test_an_unknown_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["colect"]) == 2
    assert "did you mean 'collect'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "{tmp}/nowhere"], "nowhere"),
        (["prepare", "{tmp}"], "{tmp}"),
        (["rollout", "{tmp}/no-bundle"], "no-bundle"),
        (["collect", "{tmp}/data", "--contract", "{tmp}/none.yaml"], "none.yaml"),
        (["train", "{tmp}/run", "--data.files", "{tmp}/none.h5"], "none.h5"),
        (["export", "{tmp}/no-run"], "no-run"),
        (["fit", "{tmp}/no-data"], "no-data"),
        (["label", "{tmp}/no-data"], "no-data"),
        (["relabel", "{tmp}/no-data"], "no-data"),
        (["review", "{tmp}/no-data"], "no-data"),
        (["up", "deploy-sim", "{tmp}/no-bundle", "--contract", "{tmp}/none.yaml"], "none.yaml"),
        (["bench", "nothing"], "there is no 'nothing'"),
        (["demo", "--steps", "0"], "--steps 0"),
    ],
)
def test_a_mistake_gets_one_message_and_exit_code_2(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([word.format(tmp=tmp_path) for word in words])
    said = capsys.readouterr().err
    assert code == 2, said
    assert message.format(tmp=tmp_path) in said
    assert "Traceback" not in said


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "armchair.py"), "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[1] == armchair.VERSION
