"""The commands of operators, without servers: what they accept, ask, print and log."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import override_settings

from fastws_compat import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.asgi import get_asgi_application
from fastws_compat.auth import login_required
from fastws_compat.groups import record
from fastws_compat.management import base, sessions
from fastws_compat.management import input as inputs
from fastws_compat.management.commands import ws_connect
from fastws_compat.operations import api, audit, census
from fastws_compat.operations.management import replies, top
from fastws_compat.operations.records import Done, Process
from fastws_compat.operations.survey import Answers

pytestmark = pytest.mark.django_db


def call(name: str, *args: str, **options: Any) -> str:
    out = io.StringIO()
    call_command(name, *args, stdout=out, stderr=out, **options)
    return out.getvalue()


def stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


# ws_kick


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, Any]]:
    """The questions to other processes, of which two answer."""
    questions: list[tuple[str, Any, Any]] = []

    async def ask(op: str, where: Any, **values: Any) -> Answers:
        questions.append((op, where, values))
        parts = {f"web:{n}": [{"matched": n, "total": 2, "drained": n > 0}] for n in (0, 2)}
        return Answers(parts, silent=["web:9"])

    for module in ("api", "management.commands.ws_kick", "management.commands.ws_drain"):
        monkeypatch.setattr(f"fastws_compat.operations.{module}.ask", ask)
    monkeypatch.setattr(replies, "is_local", lambda: False)
    return questions


def test_kick_without_a_layer() -> None:
    with pytest.raises(CommandError, match="does not reach other processes"):
        call("ws_kick", "--everything", "--yes")


def test_kick(asked: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fastws_compat.audit")
    out = call("ws_kick", "--route", "/ws", "--code", "4403", "--reason", "abuse", "--over", "2", "--yes")
    assert out == "No answer from web:9.\nClosed 2 sockets in 1 process.\n"
    values = {"code": 4403, "reason": "abuse", "over": 2.0, "spare": False, "personal": True}
    assert asked == [("close", {"route": "/ws"}, values)]
    line = "route:/ws Closed 2 sockets (code 4403, reason 'abuse', over 2 s); no answer from web:9"
    assert caplog.messages == [f"{audit.system_user()}: {line}"]


def test_kick_in_the_name_of_a_user(asked: Any, admin_user: User) -> None:
    ann = User.objects.create_user("ann")
    call("ws_kick", "--user", "ann", "--yes", "--as", "admin")
    assert asked[0][1] == {"user": str(ann.pk)}
    [entry] = LogEntry.objects.all()
    assert (entry.user, entry.object_id) == (admin_user, f"user:{ann.pk}")
    assert "Closed 2 sockets (code 1012)" in entry.change_message


def test_kick_while_the_database_fails(
    asked: Any, admin_user: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A user cannot be looked up then, and an act that cannot be recorded is refused. Other kicks work."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("the server closed the connection")

    caplog.set_level(logging.INFO, "fastws_compat.audit")
    with monkeypatch.context() as patch:
        patch.setattr(LogEntry, "save", fail)
        with pytest.raises(
            CommandError, match="Nothing was closed, because it cannot be recorded: the server"
        ):
            call("ws_kick", "--everything", "--yes", "--as", "admin")
        patch.setattr(User.objects, "get_by_natural_key", fail)
        with pytest.raises(CommandError, match="'admin' cannot be looked up: the server"):
            call("ws_kick", "--user", "admin", "--yes")
        assert asked == []
        assert "Closed 2 sockets" in call("ws_kick", "--route", "/ws", "--yes")
    assert "route:/ws Closed 2 sockets (code 1012)" in caplog.text
    caplog.clear()
    entered = audit.enter

    def enter(*args: Any) -> Any:
        entry = entered(*args)
        monkeypatch.setattr(LogEntry, "save", fail)
        return entry

    monkeypatch.setattr(audit, "enter", enter)
    with pytest.raises(OperationalError):
        call("ws_kick", "--everything", "--yes", "--as", "admin")
    assert "admin: * Closed 2 sockets (code 1012)" in caplog.text  # it has been done
    assert LogEntry.objects.get().change_message == "Not yet done (code 1012)"


def test_kick_without_the_admin_or_users(asked: Any, settings: Any) -> None:
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "django.contrib.admin"]
    with pytest.raises(CommandError, match=r"--as needs 'django\.contrib\.admin'"):
        call("ws_kick", "--everything", "--yes", "--as", "admin")
    with override_settings(AUTH_USER_MODEL="nowhere.User"):
        with pytest.raises(CommandError, match="This project has no users: AUTH_USER_MODEL refers"):
            call("ws_kick", "--user", "ann", "--yes")
    assert asked == []


def test_kick_asks_first(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    out = call("ws_kick", "--id", "a", "--id", "b")
    assert "2 sockets in 1 process would be closed." in out
    assert [op for op, _, _ in asked] == ["count", "close"]
    assert asked[0][1] == {"id": ["a", "b"]}
    monkeypatch.setattr("builtins.input", lambda prompt: "")
    with pytest.raises(CommandError, match=r"Nothing was closed\."):
        call("ws_kick", "--everything")
    assert [op for op, _, _ in asked] == ["count", "close", "count"]


def test_kick_without_an_answer(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "")
    with pytest.raises(CommandError, match=r"Nothing was closed\."):
        call("ws_kick", "--everything")
    assert [op for op, _, _ in asked] == ["count"]


def test_kick_dry_run(asked: Any) -> None:
    assert "would be closed" in call("ws_kick", "--everything", "--dry-run")
    assert [op for op, _, _ in asked] == ["count"]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((), "Say which sockets"),
        (("--everything", "--code", "1005"), "not a code that can be sent"),
        (("--user", "nobody", "--yes"), "There is no user 'nobody'"),
        *(((f"--{name}", "\udcff", "--yes"), "is not UTF-8") for name in ("user", "route", "id", "reason")),
        (("--everything", "--as", "nobody", "--yes"), "There is no user 'nobody'"),
        (("--everything", "--over", "-1", "--yes"), "'-1' is not a number of seconds"),
        (("--everything", "--over", "nan", "--yes"), "'nan' is not a number of seconds"),
        (("--everything", "--over", "soon", "--yes"), "'soon' is not a number of seconds"),
        (("--everything", "--over", "1e300", "--yes"), "'1e300' is not a number of seconds"),
    ],
)
def test_kick_mistakes(asked: Any, args: tuple[str, ...], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        call("ws_kick", *args)
    assert asked == []


class Replies:
    """What the processes answer, one after the other; the last one remains."""

    def __init__(self, *answers: Answers) -> None:
        self._answers = list(answers)

    async def ask(self, op: str, where: Any, **values: Any) -> Answers:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.fixture
def replying(asked: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def reply(*answers: Answers) -> None:
        ask = Replies(*answers).ask
        for module in ("api", "management.commands.ws_kick", "management.commands.ws_drain"):
            monkeypatch.setattr(f"fastws_compat.operations.{module}.ask", ask)

    return reply


SINCE = datetime(2026, 11, 27, 12, 4, tzinfo=UTC)
NOBODY: list[tuple[Answers, str, str]] = [
    (Answers(), "No process answers", "Closed 0 sockets (code 1012)"),
    (Answers(silent=["web:9"]), "No process answers", "Closed 0 sockets (code 1012); no answer from web:9"),
    (Answers(older=["web:1"]), "No process answers", "Closed 0 sockets (code 1012); no answer from web:1"),
    (
        Answers(unreached_since=SINCE),
        "No process answers",
        "Closed 0 sockets (code 1012); the channel layer failed",
    ),
    (
        Answers({"web:1": [{"matched": 2}]}, unreached_since=SINCE),
        "Not every process was reached",
        "Closed 2 sockets (code 1012); the channel layer failed",
    ),
]


@pytest.mark.parametrize(("answer", "error", "entry"), NOBODY)
def test_a_kick_that_may_not_have_been_heard_is_an_error(
    replying: Callable[..., None], admin_user: User, answer: Answers, error: str, entry: str
) -> None:
    replying(answer)
    with pytest.raises(CommandError, match=error):
        call("ws_kick", "--everything", "--yes", "--as", "admin")
    assert LogEntry.objects.get().change_message == entry
    with pytest.raises(CommandError, match=error):
        call("ws_kick", "--everything", "--dry-run")


def test_what_an_answer_lacks_is_printed(
    replying: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    replying(Answers(silent=["web:9"], older=["web:8"], unreached_since=SINCE))
    err = io.StringIO()
    with pytest.raises(CommandError):
        call_command("ws_kick", "--everything", "--yes", stderr=err)
    since = f"{SINCE.astimezone():%H:%M}"
    assert err.getvalue().splitlines() == [
        "No answer from web:9.",
        "No answer from web:8, which runs an older version.",
        f"Other processes are not reached since {since}: the channel layer fails.",
    ]


def test_the_process_that_was_named_must_answer(asked: Any) -> None:
    with pytest.raises(CommandError, match="No such process answers"):
        call("ws_kick", "--process", "web:7", "--yes")
    assert "Closed 2 sockets in 1 process." in call("ws_kick", "--process", "web:2", "--yes")


def test_a_closed_stdin_confirms_nothing(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CommandError, match="Nothing was closed"):
        call("ws_kick", "--everything")
    assert [question[0] for question in asked] == ["count"]


def test_unknown_system_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", fail)
    assert audit.system_user() == "unknown"


# ws_drain


def test_drain(asked: Any) -> None:
    assert "Draining: 1 process with 2 sockets." in call("ws_drain", "--all", "--over", "3")
    assert asked == [("drain", {"everything": True}, {"over": 3.0, "undo": False})]
    assert "Back in service" in call("ws_drain", "--host", "web", "--undo")
    assert asked[1] == ("drain", {"host": "web"}, {"over": 0.0, "undo": True})
    with pytest.raises(CommandError, match="2 sockets still open"):
        call("ws_drain", "--process", "web:2", "--wait", "0.1")
    with pytest.raises(CommandError, match="one of the arguments"):
        call("ws_drain")


@pytest.mark.parametrize("option", ["--process", "--host"])
def test_drain_of_an_empty_name_is_not_a_drain_of_all(asked: Any, option: str) -> None:
    if option == "--process":
        with pytest.raises(CommandError, match="No such process answers"):
            call("ws_drain", option, "")
    else:
        call("ws_drain", option, "")
    assert asked == [("drain", {option[2:]: ""}, {"over": 0, "undo": False})]
    assert not census.concerns(asked[0][1])


@pytest.mark.parametrize("option", ["--over", "--wait"])
def test_drain_mistakes(asked: Any, option: str) -> None:
    with pytest.raises(CommandError, match="'-1' is not a number of seconds"):
        call("ws_drain", "--all", option, "-1")
    assert asked == []


def test_drain_waits(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([2, 0])

    async def ask(op: str, where: Any) -> Answers:
        return Answers(
            {name: [{"matched": number}] for name, number in (("web:0", 0), ("web:2", next(counts)))}
        )

    monkeypatch.setattr("fastws_compat.operations.management.commands.ws_drain.ask", ask)
    monkeypatch.setattr("fastws_compat.operations.management.commands.ws_drain.INTERVAL", 0)
    assert "No sockets are left." in call("ws_drain", "--all", "--wait", "5")


def test_drain_does_not_take_silence_for_an_end(replying: Callable[..., None]) -> None:
    """A process that hangs, or a layer that fails, does not say that no socket is left."""
    drained = Answers({name: [{"matched": 1, "drained": True}] for name in ("web:1", "web:2", "db:1")})
    replying(drained, Answers({"web:1": [{"matched": 0}]}))
    with pytest.raises(CommandError, match=r"No answer from web:2 after 0\.1 s"):
        call("ws_drain", "--host", "web", "--wait", "0.1")
    replying(drained, Answers(unreached_since=SINCE))
    with pytest.raises(CommandError, match="No answer from db:1, web:1, web:2 after"):
        call("ws_drain", "--all", "--wait", "0.1")
    replying(drained, Answers({"web:1": [{"matched": 0}]}))
    assert "No sockets are left." in call("ws_drain", "--process", "web:1", "--wait", "0.1")


def test_drain_of_nobody(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drain(where: Any, **values: Any) -> Done:
        return Done(0, 0, [], answered=["web:7"])

    monkeypatch.setattr(api, "drain", drain)
    with pytest.raises(CommandError, match="No such process"):
        call("ws_drain", "--process", "web:7")


# ws_top


def process(name: str = "web:1", **routes: Any) -> Process:
    values = {"open": 2, "routes": routes, "lag": 0.004, "rss": 3 * 2**20, "layer": "Redis"}
    return Process.from_wire(values, name)


def counts(opened: int, messages: int, size: int) -> dict[str, int]:
    return {"open": 2, "waiting": 1, "opened": opened, "closed": 0, "messages_in": messages, "bytes_in": size}


def test_top_rates() -> None:
    before = top.Sample(10, [process(a=counts(1, 10, 0))])
    now = top.Sample(12, [process(a=counts(3, 10, 4096)), process("web:2", b=counts(1, 1, 1))])
    first, second = top.rows(before, now)
    assert first == {
        "process": "web:1",
        "route": "a",
        "open": 2,
        "waiting": 1,
        "opened/s": 1.0,
        "closed/s": 0.0,
        "in/s": 0.0,
        "out/s": 0.0,
        "KiB/s": 2.0,
        "lag p99": 4.0,
        "RSS": 3,
        "layer": "Redis",
    }
    assert second["opened/s"] is None  # it was not there before
    assert top.rows(None, now)[0]["KiB/s"] is None
    idle = replace(process(), routes={}, layer_up=False, layer=None, lag=None, rss=None)
    [row] = top.rows(None, top.Sample(1, [idle]))
    assert (row["route"], row["open"], row["layer"]) == ("-", 0, "- (fails)")
    assert (
        top.rows(top.Sample(9, [process()]), top.Sample(10, [process(c=counts(4, 0, 0))]))[0]["opened/s"] == 4
    )


def test_top_shows_no_rate_of_what_is_not_counted() -> None:
    before = top.Sample(10, [process(a={**counts(1, 10, 0), "bytes_in": None})])
    [row] = top.rows(before, top.Sample(12, [process(a={**counts(1, 14, 0), "bytes_in": None})]))
    assert (row["in/s"], row["KiB/s"]) == (2.0, None)


def test_top_keys() -> None:
    view = top.View()
    found = top.rows(None, top.Sample(1, [process(a=counts(1, 1, 1), b={**counts(1, 1, 1), "open": 9})]))

    def press(keys: str) -> list[str]:
        for key in keys:
            view.press(key, ["a", "b"])
        return [row["route"] for row in view.of(found)]

    assert press("") == ["b", "a"]
    assert sorted(press("sss")) == ["a", "b"]  # without a rate yet
    assert view.sort == "in/s"
    assert press("rr") == ["b"]
    assert len(press("r")) == 2
    assert len(press("/xyz\x1b")) == 2
    assert len(press("/web:11\x7f\x01\n")) == 2
    assert press("/nothing\r") == []
    assert len(press("/\r?")) == 2
    view.sort = "route"
    assert press("") == ["a", "b"]
    assert press("/")
    lines = [*top.screen(view, found, top.Sample(1, [process()], ["No answer from web:3."]), 200, 30)]
    assert lines[0].endswith(" · 2 open · 1 process")
    drained = top.Sample(1, [process(), replace(process("web:2"), draining=True)])
    assert next(top.screen(view, found, drained, 200, 30)).endswith(" · 4 open · 2 processes, 1 draining")
    assert (lines[1], lines[-1]) == ("No answer from web:3.", "/")
    press("\rr")
    assert "sorted by route · a" in "\n".join(top.screen(view, found, top.Sample(1, [process()]), 200, 30))
    press("/b\rq")
    assert view.quits


def test_top_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def survey() -> Any:
        found = process(**{"/ws/\x1b{a}": counts(1, 1, 1)})
        return [found], Answers({"web:1": [{}]}, silent=["web:3"])

    monkeypatch.setattr(api, "survey_processes", survey)
    monkeypatch.setattr(replies, "is_local", lambda: False)
    out = call("ws_top", "--once", "--interval", "0.1").splitlines()
    assert out[0].split() == " ".join(top.COLUMNS).split()
    assert "/ws/\N{REPLACEMENT CHARACTER}{a}" in out[1]
    assert out[2] == "No answer from web:3."
    found = json.loads(call("ws_top", "--json", "--interval", "0.1").splitlines()[0])
    assert (found["rows"][0]["route"], found["rows"][0]["open"]) == ("/ws/\x1b{a}", 2)
    assert found["silent"] == ["web:3"]
    stdin(monkeypatch, "")
    with pytest.raises(CommandError, match="needs a terminal"):
        call("ws_top")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CommandError, match="needs a terminal"):
        call("ws_top")


def test_the_live_table_fits_into_the_terminal() -> None:
    counted = {f"/ws/{n}": counts(1, 1, 1) for n in range(100)}
    sample = top.Sample(1, [process(**counted)], ["No answer from web:3."])
    lines = [*top.screen(top.View(sort="route"), top.rows(None, sample), sample, 40, 20)]
    assert len(lines) == 19  # the cursor is in the last line
    assert max(map(len, lines)) == 40
    assert lines[-3] == "… 89 more rows: / and r show fewer"
    assert lines[-4].split()[:2] == ["web:1", "/ws/18"]
    assert lines[4].split()[0] == "process"
    assert sum(line.startswith("web:1") for line in lines) + 89 == 100
    few = [*top.screen(top.View(), top.rows(None, sample), sample, 40, 1)]
    assert few[-3] == "… 100 more rows: / and r show fewer"


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        (Answers(older=["web:8"]), "No process answers"),
        (Answers(unreached_since=SINCE), "No process answers"),
        (Answers({"web:1": [{}]}, unreached_since=SINCE), "Not every process"),
    ],
)
@pytest.mark.parametrize("form", ["--once", "--json"])
def test_top_without_all_answers_is_an_error(
    monkeypatch: pytest.MonkeyPatch, answers: Answers, error: str, form: str
) -> None:
    async def survey() -> Any:
        return [], answers

    monkeypatch.setattr(api, "survey_processes", survey)
    monkeypatch.setattr(replies, "is_local", lambda: False)
    with pytest.raises(CommandError, match=error):
        call("ws_top", form, "--interval", "0.1")


def test_top_of_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def survey() -> Any:
        names = [f"web-{n}:4121" for n in range(120)]
        found = [process(name, **{"/ws": counts(1, 1, 1)}) for name in names]
        return found, Answers({name: [{}] for name in names})

    monkeypatch.setattr(api, "survey_processes", survey)
    monkeypatch.setattr(replies, "is_local", lambda: False)
    found = json.loads(call("ws_top", "--json", "--interval", "0.1"))
    assert {row["process"] for row in found["rows"]} == {f"web-{n}:4121" for n in range(120)}
    assert call("ws_top", "--once", "--interval", "0.1").count("/ws") == 120


# ws_send


def test_send_json_text_and_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "frame").write_bytes(b"\x01\x02")
    stdin(monkeypatch, '{"from": "stdin"}')
    with record() as sent:
        out = call("ws_send", "room.1", '{"text": "hi"}')
        call("ws_send", "room.1", "[1]")
        call("ws_send", "room.1", "3")
        call("ws_send", "room.1", "--text", "{")
        call("ws_send", "room.1", "--bytes", str(tmp_path / "frame"))
        call("ws_send", "room.1", "-")
    assert "Sent to room.1: 0 members in 0 processes." in out
    assert "does not reach other processes" in out
    messages = [each.message for each in sent]
    assert messages == [{"text": "hi"}, [1], "3", "{", b"\x01\x02", {"from": "stdin"}]
    assert {each.group.name for each in sent} == {"room.1"}


def test_send_to_a_user_and_to_everyone(admin_user: User) -> None:
    with record() as sent:
        call("ws_send", "--user", "admin", "{}")
        call("ws_send", "--everyone", "--text", "hi")
    assert [each.group.name for each in sent] == [f"fastws.user.{admin_user.pk}", "fastws.everyone"]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("room.1", "hi"), "The message is not JSON"),
        (("room.1", '{"a": NaN}'), "The message is not JSON .NaN is not a number"),
        (("room.1", '["\\ud800"]'), "The message is not JSON"),
        (("room.1", "[" * 100_000), "The message is not JSON"),
        (("room.1", "--text", "\udcff"), "The message is not UTF-8"),
        (("room.1",), "Write a group and one message"),
        (("room.1", "{}", "{}"), "Write a group and one message"),
        (("--text", "hi"), "Write a group and one message"),
        (("no group", "{}"), "not a valid group name"),
        (("--user", "nobody", "{}"), "There is no user"),
        (("room.1", "--bytes", "/no/such/file"), "cannot be read: No such file"),
        (("--id", "gone", "{}"), "No process answers"),
        (("--id", "gone", "--everyone", "{}"), "not allowed with"),
    ],
)
def test_send_mistakes(args: tuple[str, ...], error: str) -> None:
    with record() as sent, pytest.raises(CommandError, match=error):
        call("ws_send", *args)
    assert sent == []


def test_send_to_one(asked: Any) -> None:
    assert call("ws_send", "--id", "abc", "{}") == "Sent to abc.\n"
    assert asked[0] == ("send", {"id": ["abc"]}, {"kind": "json", "data": "{}"})


def test_send_to_one_that_is_gone(replying: Callable[..., None]) -> None:
    replying(Answers({"web:1": [{"matched": 0}]}))
    with pytest.raises(CommandError, match="There is no socket 'gone'"):
        call("ws_send", "--id", "gone", "{}")


def test_send_without_the_app(settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "fastws_compat.operations"]
    assert "Sent to room.1.\n" in call("ws_send", "room.1", "{}")
    with pytest.raises(CommandError, match="needs 'fastws_compat"):
        call("ws_send", "--id", "abc", "{}")


def test_message_from_a_closed_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    for form in (["-"], ["--bytes", "-"]):
        with pytest.raises(CommandError, match="There is no stdin"):
            call("ws_send", "room", *form)


def test_bytes_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "abc")
    assert inputs.content("-") == b"abc"


# ws_connect, in process


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, settings: Any) -> FastAPI:
    app = FastAPI()

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol=(websocket.scope["subprotocols"] or [None])[0])
        async for text in websocket.iter_text():
            if text == "bytes":
                await websocket.send_bytes(b"\x01")
            elif text == "end":
                await websocket.close(4000, "enough")
            else:
                await websocket.send_text(f"echo {text}")

    @app.websocket("/named/{name}")
    async def named(websocket: WebSocket, name: str) -> None:
        await websocket.accept()
        await websocket.send_json([name, websocket.query_params["q"], websocket.headers["x-name"]])
        await websocket.close()

    @app.websocket("/me")
    async def me(websocket: WebSocket, user: Annotated[User, Depends(login_required)]) -> None:
        await websocket.accept()
        await websocket.send_json([user.username, websocket.url.scheme, websocket.headers["host"]])
        await websocket.close()

    module = ModuleType("connected_asgi")
    module.application = get_asgi_application(app)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.ASGI_APPLICATION = "connected_asgi.application"
    settings.ALLOWED_HOSTS = ["*"]
    return app


def connect(*args: str) -> tuple[int, list[str]]:
    """The exit status and the lines."""
    out = io.StringIO()
    try:
        call_command("ws_connect", *args, "--in-process", stdout=out)
    except SystemExit as exc:
        return int(exc.code or 0), out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


def without_time(lines: list[str]) -> list[str]:
    return [line[13:] if line[2:3] == ":" else line for line in lines]


def test_connect(site: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "one\n\n/ping\n/nonsense\nbytes\n")
    status, lines = connect("/echo?a=1", "--send", "first", "--wait", "0.5", "--subprotocol", "v1")
    assert status == 0
    assert lines[:3] == ["HTTP/1.1 101 Switching Protocols", "Sec-WebSocket-Protocol: v1", ""]
    said = without_time(lines[3:])
    assert said[0] == "> first"
    for line in ("< echo first", "> one", "no pong", "< echo one", "< 1 bytes: 01", "closed 1000"):
        assert line in said
    assert any("'/nonsense' is unknown" in line for line in said)


def test_connect_in_process_runs_the_lifespan(site: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        if events:
            raise ValueError("no second start")
        events.append("started")
        yield {"word": "from the lifespan"}
        events.append("stopped")

    @site.websocket("/word")
    async def word(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state.word)
        await websocket.close()
        events.append("ended")

    site.router.lifespan_context = lifespan
    stdin(monkeypatch, "")
    status, lines = connect("/word", "--wait", "5")
    assert status == 0
    assert "< from the lifespan" in without_time(lines)
    assert events == ["started", "ended", "stopped"]
    status, lines = connect("/word")
    assert status == 3
    assert lines == ["No answer from ws://127.0.0.1:8000/word: the application's lifespan failed at startup"]


def test_connect_in_process_stops_the_application_when_it_is_interrupted(
    site: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        events.append("stopped")

    @site.websocket("/interrupted")
    async def interrupted(websocket: WebSocket) -> None:
        await websocket.accept()
        # In the loop, not in this task: there it would be an exception of the endpoint.
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        with pytest.raises(WebSocketDisconnect):
            await websocket.receive_text()
        events.append("left")

    site.router.lifespan_context = lifespan
    stdin(monkeypatch, "")
    status, _ = connect("/interrupted", "--wait", "60")
    assert status == 128 + signal.SIGTERM
    assert events == ["left", "stopped"]


def test_connect_json(site: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "")
    status, lines = connect("/echo", "--send", "end", "--wait", "5", "--json")
    assert status == 3
    events = [json.loads(line) for line in lines]
    assert [each["event"] for each in events] == ["handshake", "sent", "closed"]
    assert (events[0]["status"], events[2]["code"], events[2]["reason"]) == (101, 4000, "enough")


def test_connect_closes_with_a_code(site: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "/close 1001 bye\n")
    status, lines = connect("/echo")
    assert (status, without_time(lines)[-1]) == (0, "closed 1001 bye")
    stdin(monkeypatch, "/close 1005\n/close 4000\n")
    status, lines = connect("/echo")
    assert (status, without_time(lines)[-1]) == (3, "closed 4000")


def test_connect_cuts_a_long_reason(site: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, f"/close 1000 {'x' * 200}\n")
    status, lines = connect("/echo")
    assert (status, without_time(lines)[-1]) == (0, f"closed 1000 {'x' * 123}")


def test_connect_sends_only_what_is_text(site: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xff\nb\n"), encoding="utf-8"))
    status, lines = connect("/echo", "--send", "\udcff", "--wait", "0.5")
    said = without_time(lines)
    assert "'\\udcff' is not UTF-8 and is not sent." in said
    assert "'a\\udcff' is not UTF-8 and is not sent." in said
    assert [line for line in said if line.startswith(">")] == ["> b"]
    assert "< echo b" in said
    assert status == 0


def test_connect_with_a_stdin_of_another_kind(site: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n"))
    status, lines = connect("/echo", "--wait", "0.5")
    assert status == 0
    assert "< echo one" in without_time(lines)


def test_connect_to_a_path_that_is_no_text(site: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "")
    _, lines = connect("/named/\udcff?q=\udcff", "--header", "X-Name: x", "--wait", "5")
    [said] = [json.loads(line[2:]) for line in without_time(lines) if line.startswith("<")]
    assert said[:2] == ["\ufffd", "\ufffd"]


@pytest.mark.parametrize("path", ["/named/my café?q=é x", "/named/my%20caf%C3%A9?q=%C3%A9%20x"])
def test_connect_to_a_path_that_is_not_ascii(
    site: FastAPI, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    stdin(monkeypatch, "")
    _, lines = connect(path, "--header", "X-Name: é", "--wait", "5")
    [said] = [json.loads(line[2:]) for line in without_time(lines) if line.startswith("<")]
    assert said == ["my café", "é x", "é".encode().decode("latin-1")]


def test_connect_refused(site: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "")
    status, lines = connect("/me")
    assert (status, lines[0]) == (2, "HTTP/1.1 401 Unauthorized")
    assert "Unauthorized" in lines[-2] + lines[-1]
    status, lines = connect("/missing")
    assert (status, lines[0]) == (2, "HTTP/1.1 403 Forbidden")


@pytest.mark.django_db(transaction=True)
def test_connect_as_a_user(site: FastAPI, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    User.objects.create_user("ann")
    stdin(monkeypatch, "")
    status, lines = connect("/me", "--user", "ann", "--secure", "--host", "example.com", "--wait", "5")
    assert status == 0
    assert '< ["ann","wss","example.com"]' in without_time(lines)
    assert not Session.objects.exists()
    assert User.objects.get().last_login is None


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("/ws", "--url", "localhost"), "is not the address of a server"),
        (("/ws", "--header", "nonsense"), "is not a header"),
        (("/ws", "--user", "nobody"), "There is no user"),
        (("/ws", "--bearer", "/no/such/file"), "cannot be read"),
        (("/ws", "--bearer", sys.executable), "is not a text"),
        (("/ws", "--url", "http://127.0.0.1:99999"), "is not the address of a server"),
        (("/ws", "--url", "http://[::1"), "is not the address of a server"),
        (("/ws", "--wait", "-1"), "'-1' is not a number of seconds"),
    ],
)
def test_connect_mistakes(args: tuple[str, ...], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        call("ws_connect", *args)


def test_connect_without_an_application(settings: Any) -> None:
    settings.ASGI_APPLICATION = "no_such_module.application"
    with pytest.raises(CommandError, match="cannot be imported"):
        call("ws_connect", "/ws", "--in-process")


def test_connect_without_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets", None)
    with pytest.raises(CommandError, match=r"fastws-compat\[cli\]"):
        call("ws_connect", "/ws")


def test_target(tmp_path: Path, settings: Any) -> None:
    (tmp_path / "token").write_text("secret\n")
    options = {
        "url": "https://example.com/site/",
        "path": "/ws?a=1",
        "host": None,
        "origin": None,
        "secure": False,
        "in_process": False,
        "bearer": str(tmp_path / "token"),
        "header": ["X-Team: blue"],
        "subprotocol": ["v1"],
    }
    target = ws_connect.target_of(options)
    assert (target.url, target.address) == ("wss://example.com/site/ws?a=1", ("example.com", 443))
    assert target.headers == [
        ("Origin", "https://example.com"),
        ("Authorization", "Bearer secret"),
        ("X-Team", "blue"),
    ]
    behind = {**options, "url": "http://127.0.0.1:8000", "host": "example.com", "secure": True, "origin": ""}
    target = ws_connect.target_of(behind)
    assert (target.url, target.address) == ("ws://example.com/ws?a=1", ("127.0.0.1", 8000))
    assert target.headers[0] == ("X-Forwarded-Proto", "https")


def test_session_backend(settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = ["tests.test_operations_commands.Nothing"]
    assert sessions.backend() == "tests.test_operations_commands.Nothing"


class Nothing:
    """An authentication backend without users."""


def test_signals_only_in_the_main_thread() -> None:
    entered = threading.Event()

    def enter() -> None:
        with base.interruptible():
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(20)
    assert entered.is_set()
