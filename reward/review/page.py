"""The verb `review`: a page on which people answer, look at what judges said, and overrule."""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
import uvicorn
from rich.console import Console
from rich.progress import Progress

from episodes.dataset import Dataset, usable
from episodes.errors import ConfigError, LabelError, MachineError, did_you_mean
from reward.ballots import VoteConfig
from reward.clients.human import HUMAN, NAME, Human
from reward.clients.protocol import Kind, Task
from reward.drawing import DrawConfig
from reward.frames import image_stream
from reward.judging import JudgeConfig, known_goal, label_set_name
from reward.label import LabelConfig, draw_for
from reward.records import left_out_note
from reward.review.album import Album
from reward.review.draws import check_for_people, draw_of
from reward.review.gate import App, Names
from reward.review.room import Asked, Room
from reward.review.server import make_app
from reward.review.verdicts import kind_of
from reward.showing import ShowConfig
from reward.store import FILE, LabelStore


@dataclass(frozen=True)
class ReviewConfig:
    """Compare and rate pictures by keyboard, look through what a judge said and overrule it, see agreement
    and cost: on a page in the browser, served to this machine alone. Ctrl-C ends it.
    """

    dataset: tyro.conf.Positional[Path]
    """The dataset folder; answers are kept in its labels.sqlite."""
    person: str = ""
    """Who answers, unless the page is told otherwise; your user name when left out."""
    labels: str = ""
    """Label set of people's answers; `human`, with the question for ratings, when left out."""
    of: str = ""
    """Put the pairs of this label set to people, shown as its judge was shown them, instead of drawing."""
    question: Literal["preference", "score", "progress", "success"] = "preference"
    """preference: which of two is better. Of single frames: score from 0 to 1, progress from 1 to 5, success
    yes or no. Not needed with --of."""
    goal: str = ""
    """What the robot is to do, as it completes "The goal is …"; known for the published tasks."""
    stream: str = ""
    """Image stream to show; the contract's reference or only camera when left out."""
    draw: Annotated[DrawConfig, tyro.conf.arg(name="")] = field(default_factory=lambda: DrawConfig(pairs=200))
    """The pairs."""
    show: ShowConfig = field(default_factory=ShowConfig)
    """What is shown of a frame: clips, further cameras, crop."""
    vote: Annotated[VoteConfig, tyro.conf.arg(name="")] = field(default_factory=VoteConfig)
    """How often each pair is asked about; each vote comes from another person."""
    reward: Path | None = None
    """Folder of a fitted reward model, for selections that need one."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but this machine's own lets the network in: what is sent is not
    encrypted, and whoever reads the address can answer."""
    port: int = 8471
    """Port; 0 takes a free one."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port {self.port} is out of range: 0 to 65535.")
        if self.person and NAME.fullmatch(self.person) is None:
            raise ConfigError(f"person {self.person!r}: letters, digits, spaces and .@-_, at most 40.")


def main(config: ReviewConfig) -> int:
    """Serve the page until Ctrl-C."""
    console = Console()
    dataset = Dataset.open(config.dataset)
    with LabelStore(dataset.path / FILE) as store, listening(config.host, config.port) as listener:
        columns, quiet = Progress.get_default_columns(), not console.is_terminal
        with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
            reading = bar.add_task("reading frames", total=None)
            room = make_room(
                config,
                dataset,
                store,
                progress=lambda done, total: bar.update(reading, completed=done, total=total),
            )
        for labels in store.names():
            pairs = store.drawn(labels)
            if note := left_out_note(sum(not room.shows(pair) for pair in pairs), len(pairs)):
                console.print(f"[yellow]{labels}: {note}[/]", soft_wrap=True)
        token, port = secrets.token_urlsafe(24), int(listener.getsockname()[1])
        names = names_of(config.host, port)
        if names.addresses:
            console.print(
                f"[yellow]warning: listening on {config.host}: the page can be reached from the network, "
                "unencrypted, by whoever has the address. An SSH tunnel (ssh -L) is safer.[/]",
                soft_wrap=True,
            )
        app = make_app(room, token, names, title=dataset.path.name, person=config.person or _user())
        host = f"[{config.host}]" if ":" in config.host else config.host
        shown = socket.gethostname() if config.host in ("0.0.0.0", "::") else host
        print(f"http://{shown}:{port}/{token}/", flush=True)
        console.print("open this address in a browser; Ctrl-C ends it", soft_wrap=True)
        with contextlib.suppress(KeyboardInterrupt):
            make_server(app).run(sockets=[listener])
    console.print("ended; every answer is kept", soft_wrap=True)
    return 0


def make_room(
    config: ReviewConfig,
    dataset: Dataset,
    store: LabelStore,
    now_ns: Callable[[], int] = time.time_ns,
    progress: Callable[[int, int], None] | None = None,
) -> Room:
    """The room of a dataset, its frames read.

    Args:
        config: what is asked, and of whom.
        dataset: at least one episode.
        store: its labels.
        now_ns: time.
        progress: called with (episodes read, episodes in all).

    Raises:
        ConfigError: no goal is given, and none is known.
        DatasetError: no episodes or no such camera.
        LabelError: the label sets do not fit.
    """
    source = config.of
    if source and source not in store.names():
        raise LabelError(f"--of {source}: no such label set; {did_you_mean(source, store.names())}")
    kind = kind_of(store, source) if source else Kind(config.question)
    stream = image_stream(dataset, config.stream)
    judge = Human(Task(config.goal or _goal(dataset, store), kind, config.show.layout(stream)))
    labels = label_set_name(config.labels, judge, kind)
    check_for_people(store, labels)
    album = Album(dataset, stream)
    album.showing(config.show, progress)
    goal = str(judge.settings["goal"])

    def draw() -> None:
        if source:
            draw_of(
                *(store, album, labels, source, config.draw.pairs, config.draw.seed, goal, kind, config.vote)
            )
            return
        as_label = LabelConfig(
            dataset=config.dataset,
            labels=labels,
            stream=stream,
            who=JudgeConfig(question=config.question),
            draw=config.draw,
            show=config.show,
            vote=config.vote,
            reward=config.reward,
        )
        draw_for(as_label, dataset, store, album.showing(config.show), judge, stream)

    tasks = {info.episode_id: str(info.attrs.get("task", "")) for info in usable(dataset)}
    return Room(store, album, Asked(labels, goal, bool(source)), draw, tasks, now_ns)


def listening(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        MachineError: the address cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise MachineError(
            f"{host}:{port} cannot be listened on ({error}): another page may be open; --port 0 takes a free "
            "port."
        ) from error


def names_of(host: str, port: int) -> Names:
    """By which names a server that listens on `host` may be called.

    Raises:
        ConfigError: not an address.
    """
    names = Names(port)
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ConfigError(f"host {host!r} is no address: 127.0.0.1 for this machine alone.") from error
    if loopback:
        return replace(names, names=names.names | {host})
    own = {socket.gethostname().lower(), socket.getfqdn().lower()}
    return replace(names, names=names.names | own, addresses=True)


def make_server(app: App) -> uvicorn.Server:
    """A server for one page; it ends at SIGINT or SIGTERM, or when told to."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            http="h11",
            loop="asyncio",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    )


def _goal(dataset: Dataset, store: LabelStore) -> str:
    """The task's goal phrase, else what a judge was told."""
    try:
        return known_goal(dataset)
    except ConfigError:
        told = store.rows(
            "SELECT json_extract(settings, '$.judge.settings.goal') AS goal FROM draws WHERE goal<>'' "
            "ORDER BY number DESC LIMIT 1"
        )
        if not told:
            raise
        return str(told[0][0])


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return HUMAN
    return name if NAME.fullmatch(name) else HUMAN
