"""`armchair episodes`: everything that is done with recordings once they are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from episodes import editing, listing, split, stats
from episodes.bags import cli as bags
from episodes.bags.cli import ExportConfig, ImportConfig
from episodes.checks import cli as checks
from episodes.checks.cli import CheckConfig
from episodes.editing import EditConfig
from episodes.listing import ListConfig, RecoverConfig, ShowConfig
from episodes.split import SplitConfig
from episodes.stats import StatsConfig
from episodes.view import cli as view
from episodes.view.cli import ViewConfig


@dataclass(frozen=True)
class EpisodesConfig:
    """List, check, recover, edit, split, measure, view, import and export episodes."""

    do: tyro.conf.OmitSubcommandPrefixes[
        Annotated[ListConfig, tyro.conf.subcommand("list")]
        | Annotated[ShowConfig, tyro.conf.subcommand("show")]
        | Annotated[CheckConfig, tyro.conf.subcommand("check")]
        | Annotated[RecoverConfig, tyro.conf.subcommand("recover")]
        | Annotated[EditConfig, tyro.conf.subcommand("edit")]
        | Annotated[SplitConfig, tyro.conf.subcommand("split")]
        | Annotated[StatsConfig, tyro.conf.subcommand("stats")]
        | Annotated[ViewConfig, tyro.conf.subcommand("view")]
        | Annotated[ImportConfig, tyro.conf.subcommand("import")]
        | Annotated[ExportConfig, tyro.conf.subcommand("export")]
    ]


def main(config: EpisodesConfig) -> int:
    """Run the sub-command; what its exit code means stands in its --help."""
    match config.do:
        case CheckConfig() as do:
            return checks.main(do)
        case EditConfig() as do:
            return editing.main(do)
        case SplitConfig() as do:
            return split.main(do)
        case StatsConfig() as do:
            return stats.main(do)
        case ViewConfig() as do:
            return view.main(do)
        case ImportConfig() as do:
            return bags.run_import(do)
        case ExportConfig() as do:
            return bags.run_export(do)
        case ListConfig() as do:
            return listing.list_episodes(do)
        case ShowConfig() as do:
            return listing.show_episode(do)
        case RecoverConfig() as do:
            return listing.recover_episodes(do)
