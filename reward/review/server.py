"""The page's HTTP interface: every request is one call of the room, checked on the way in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from episodes.errors import ArmchairError, DatasetError
from reward.clients.human import NAME
from reward.clients.protocol import Outcome
from reward.records import Place
from reward.review.acts import Given, Seat, TakenError
from reward.review.gate import App, Gate, Names
from reward.review.room import Json, Room
from reward.review.verdicts import FILTERS

STATIC = Path(__file__).with_name("static")
MOST_ITEMS = 500

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{8,64}$")]
"""Made up by the page."""
Person = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Where(_Body):
    labels: str
    draw: str
    position: int = Field(ge=0, lt=1 << 40)

    @property
    def place(self) -> Place:
        return Place(self.labels, self.draw, self.position)


class _Seated(_Body):
    person: Person
    tab: Id

    @property
    def seat(self) -> Seat:
        return Seat(self.person.strip(), self.tab)


class _Undo(_Seated):
    id: Id


class _Said(_Undo):
    place: _Where
    outcome: Literal["first", "second", "tie", "unsure", "rated"]
    value: float | None = None

    @property
    def given(self) -> Given:
        return Given(Outcome(self.outcome), self.value)


class _Answer(_Said):
    number: int = Field(ge=0, lt=1 << 40)


class _Overruling(_Said):
    seen: str = Field(max_length=64)


class _Tab(_Body):
    tab: Id


def make_app(room: Room, token: str, names: Names, *, title: str = "", person: str = "") -> App:
    """The ASGI application behind its gate.

    Args:
        room: answers.
        token: what the address begins with.
        names: by which it may be called.
        title: name of the dataset.
        person: who answers unless the page is told otherwise.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)

    @app.exception_handler(ArmchairError)
    def refused(request: Request, error: ArmchairError) -> JSONResponse:
        status = 409 if isinstance(error, TakenError) else 404 if isinstance(error, DatasetError) else 422
        return JSONResponse({"detail": str(error)}, status)

    @app.exception_handler(RequestValidationError)
    def misread(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"detail": f"{where}: {first['msg']}"}, 422)

    @app.get("/{name}")
    def static(name: Literal["review.js", "review.css", "icon.svg"]) -> FileResponse:
        return FileResponse(STATIC / name, headers={"cache-control": "no-cache"})

    @app.get("/")
    def index() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    @app.get("/pictures/{digest}.png")
    def picture(digest: str) -> Response:
        keep = {"cache-control": "private, max-age=86400, immutable"}
        return Response(room.picture(digest), media_type="image/png", headers=keep)

    @app.get("/api/state")
    def state() -> Json:
        return {**room.state(), "title": title, "person": person}

    @app.post("/api/next")
    def next_items(body: _Seated) -> Json:
        return room.next(body.seat)

    @app.post("/api/answer")
    def answer(body: _Answer) -> Json:
        return room.answer(body.seat, body.place.place, body.number, body.given, body.id)

    @app.post("/api/undo")
    def undo_answer(body: _Undo) -> Json:
        return room.undo_answer(body.seat, body.id)

    @app.post("/api/release")
    def release(body: _Tab) -> Json:
        room.release(body.tab)
        return {}

    @app.get("/api/verdicts")
    def verdicts(
        labels: str,
        only: Annotated[str, Query(pattern=f"^({'|'.join(FILTERS)})$")] = "all",
        offset: Annotated[int, Query(ge=0, lt=1 << 40)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = MOST_ITEMS,
    ) -> Json:
        return room.verdicts(labels, only, offset, limit)

    @app.get("/api/verdict")
    def verdict(labels: str, draw: str, position: Annotated[int, Query(ge=0, lt=1 << 40)]) -> Json:
        return room.verdict(Place(labels, draw, position))

    @app.post("/api/overrule")
    def overrule(body: _Overruling) -> Json:
        return room.overrule(body.seat, body.place.place, body.given, body.id, body.seen)

    @app.post("/api/undo-overruling")
    def undo_overruling(body: _Undo) -> Json:
        return room.undo_overruling(body.seat, body.id)

    @app.get("/api/figures")
    def figures() -> Json:
        return room.figures()

    return Gate(app, token, names)
