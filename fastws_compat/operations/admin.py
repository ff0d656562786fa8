"""The sockets in Django's admin: the list, one socket, and what an operator may do to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied
from django.core.signing import BadSignature
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe

from fastws_compat.operations import api, audit, details, listing, selections, taps
from fastws_compat.operations.audit import Deed
from fastws_compat.operations.forms import KickForm, MessageForm
from fastws_compat.operations.listing import URLS, Query
from fastws_compat.operations.models import LiveSocket
from fastws_compat.operations.rates import Rates
from fastws_compat.operations.records import Done, Row
from fastws_compat.operations.selections import Selection

APP = "fastws_operations"
# The maximum number of log entries on a socket's page, and of sockets listed in a confirmation.
MAX_ENTRIES, MAX_LISTED = 20, 20


if TYPE_CHECKING:
    Base = admin.ModelAdmin[LiveSocket]
else:
    Base = admin.ModelAdmin


class Gone(Exception):
    """The selection cannot be used."""


class LiveSocketAdmin(Base):
    """The open sockets of all processes. The model has no table; everything comes from the processes."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "view_livesocket")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_urls(self) -> list[Any]:
        views: list[tuple[str, Callable[..., HttpResponse], str]] = [
            ("", self.list_view, "changelist"),
            ("data/", require_safe(self.data_view), "data"),
            ("kick/", require_POST(self.kick_view), "kick"),
            ("message/", require_POST(self.message_view), "message"),
            ("processes/", require_safe(self.processes_view), "processes"),
            ("<str:object_id>/tap/", require_POST(self.tap_view), "tap"),
            ("<path:object_id>/", require_safe(self.socket_view), "change"),
        ]
        return [
            path(route, self.admin_site.admin_view(self._viewable(view)), name=f"{URLS}_{name}")
            for route, view, name in views
        ]

    def _viewable(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        """The view for those who may see sockets at all."""

        def checked(request: HttpRequest, **values: Any) -> HttpResponse:
            if not self.has_view_permission(request):
                raise PermissionDenied
            return view(request, **values)

        for alias in connections:  # the record of an action is committed before the action
            transaction.non_atomic_requests(using=alias)(checked)
        return checked

    def url(self, name: str, *args: Any) -> str:
        return reverse(f"{self.admin_site.name}:{URLS}_{name}", args=args)

    def page(self, request: HttpRequest, template: str, status: int = 200, **context: Any) -> HttpResponse:
        common = {
            **self.admin_site.each_context(request),
            "opts": LiveSocket._meta,
            "list_url": self.url("changelist"),
            "media": self.media,
            **context,
        }
        name = f"fastws_operations/{template}.html"
        request.current_app = self.admin_site.name
        return TemplateResponse(request, name, common, status=status)

    # The list

    def list_view(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST":
            return self._choose(request)
        query = Query.from_request(request.GET)
        if query.unknown:
            messages.error(request, unknown_filters(query))
            return HttpResponseRedirect(self.url("changelist") + query.address())
        page, rates = listing.ask(query, may(request, "view_personal"))
        is_ready = Permission.objects.filter(content_type__app_label=APP, codename="kick_livesocket").exists()
        return self.page(
            request,
            "list",
            title=_("Live sockets"),
            query=query,
            filters=[(name, value) for name, value in query.filters.items()],
            headers=listing.headers(query),
            rows=[listing.shown(row, self.admin_site.name) for row in page.rows],
            sidebar=listing.sidebar(query, page),
            clear_url=query.address(**dict.fromkeys(query.filters)) if query.filters else None,
            actions=actions_of(request) if is_ready else [],
            is_ready=is_ready,
            data_url=self.url("data") + query.address(),
            processes_url=self.url("processes"),
            **texts(query, page, rates),
        )

    def _choose(self, request: HttpRequest) -> HttpResponse:
        """Go on to the confirmation of the action that was chosen in the list."""
        chosen = request.POST.get("action", "")
        if chosen.startswith("kick"):
            return self.kick_view(request)
        if chosen == "message":
            return self.message_view(request)
        messages.warning(request, _("No action selected."))
        return HttpResponseRedirect(request.get_full_path())

    def data_view(self, request: HttpRequest) -> HttpResponse:
        """The data that the page requests every two seconds. It neither saves nor extends the session."""
        query = Query.from_request(request.GET)
        page, rates = listing.ask(query, may(request, "view_personal"))
        rows = [listing.shown(row, self.admin_site.name) for row in page.rows]
        answer = JsonResponse({"rows": rows, "totals": totals(page), **texts(query, page, rates)})
        answer["Cache-Control"] = "no-store"
        leave_session(request)
        return answer

    # One socket

    def socket_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        object_id = unquote(object_id)  # the admin quotes it in the URLs of its log entries
        found = self._rows(request, [object_id])
        watch = self._watch(request, found)
        return self.page(
            request,
            "socket",
            title=_("Socket"),
            subtitle=object_id,
            object_id=object_id,
            row=found[0] if found else None,
            is_one=object_id.isalnum(),
            fields=details.fields(found[0]) if found else [],
            entries=audit.entries(object_id)[:MAX_ENTRIES],
            may_kick=may(request, "kick_livesocket"),
            may_message=may(request, "message_livesocket"),
            checkbox=ACTION_CHECKBOX_NAME,
            kick_url=self.url("kick"),
            message_url=self.url("message"),
            watch=watch,
        )

    def _watch(self, request: HttpRequest, found: list[Row]) -> dict[str, Any] | None:
        """What the page of a socket shows of its messages; None if the user may not watch any."""
        if not (found and may(request, "tap_livesocket") and taps.is_allowed()):
            return None
        row = found[0]
        answer = self._tap(request, row.id, "read") if row.tapped else {}
        return {
            "url": self.url("tap", row.id),
            "is_on": bool(answer.get("matched")),
            "lines": details.lines(answer.get("messages") or ()),
        }

    def tap_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Start or stop watching a socket's messages, or send the page what is new."""
        if not may(request, "tap_livesocket"):
            raise PermissionDenied
        action = request.POST.get("action")
        if action == "renew":
            return self._news(request, object_id)
        if action in ("start", "stop"):
            self._record_tap(request, object_id, action)
        return HttpResponseRedirect(self.url("change", object_id))

    def _news(self, request: HttpRequest, id: str) -> HttpResponse:
        after = request.POST.get("after", "")
        answer = self._tap(request, id, "renew", int(after) if after.isdecimal() and len(after) < 16 else 0)
        lines = details.lines(answer.get("messages") or ())
        news = JsonResponse({"is_on": bool(answer["matched"]), "lines": lines})
        news["Cache-Control"] = "no-store"
        leave_session(request)
        return news

    def _record_tap(self, request: HttpRequest, id: str, action: str) -> None:
        """Start or stop watching. The start is recorded before anything is shown."""
        shown = described(Selection({"id": [id]}), self._rows(request, [id]))
        if action == "stop":
            answer = self._tap(request, id, "stop")
            if answer["matched"]:
                deed = taps.untap(id, shown, answer["count"], answer["size"])
                audit.complete(audit.enter(deed, request.user), request.user, deed, (), taps.ONE)
            return
        deed = Deed("tap", id, shown, "for a minute, or as long as the page is open")
        entry = audit.enter(deed, request.user)
        answer = self._tap(request, id, "start")
        audit.complete(entry, request.user, deed, (), Done(answer["matched"], answer["matched"], []))
        if not answer["matched"]:
            messages.error(request, REFUSALS[answer["refused"]])

    def _tap(self, request: HttpRequest, id: str, action: str, after: int = 0) -> dict[str, Any]:
        return async_to_sync(api.tap)(id, action, by=request.user, spare=spares(request), after=after)

    def _rows(self, request: HttpRequest, ids: Sequence[str]) -> list[Row]:
        where = {"id": list(ids)}
        page = async_to_sync(api.page)(where, limit=max(len(ids), 1), personal=may(request, "view_personal"))
        return page.rows

    # Actions

    def kick_view(self, request: HttpRequest) -> HttpResponse:
        return self._confirmed(request, "kick", KickForm, self._kick)

    def message_view(self, request: HttpRequest) -> HttpResponse:
        return self._confirmed(request, "message", MessageForm, self._send)

    def _confirmed(
        self,
        request: HttpRequest,
        action: str,
        form_class: type[forms.Form],
        act: Callable[[HttpRequest, Selection, dict[str, Any], str], None],
    ) -> HttpResponse:
        """Ask for a confirmation, and act when it comes."""
        if not may(request, f"{action}_livesocket"):
            raise PermissionDenied
        try:
            selection = self._selection(request, action)
        except Gone as gone:
            messages.error(request, str(gone))
            return HttpResponseRedirect(self.url("changelist"))
        except BadSignature:
            return self.page(request, "expired", status=400, title=_("The selection is no longer valid"))
        is_confirmed = "selection" in request.POST
        form = form_class(request.POST) if is_confirmed else form_class()
        rows = self._rows(request, selection.ids[:MAX_LISTED]) if selection.ids else []
        if is_confirmed and form.is_valid():
            act(request, selection, form.cleaned_data, described(selection, rows))
            listing.forget()
            return HttpResponseRedirect(self.url("changelist"))
        return self._ask(request, action, selection, form, rows)

    def _selection(self, request: HttpRequest, action: str) -> Selection:
        """The selection that was submitted; Gone if nothing is selected."""
        if "selection" in request.POST:
            return selections.signed(request.POST["selection"], action, request.user)
        if request.POST.get("action") == "kick_all":
            query = Query.from_request(request.GET)
            if query.unknown:
                raise Gone(unknown_filters(query))
            return Selection(query.where or {"everything": True})
        ids = list(dict.fromkeys(request.POST.getlist(ACTION_CHECKBOX_NAME)))
        if not ids:
            raise Gone(_("Select the sockets first."))
        return Selection({"id": ids})

    def _ask(
        self, request: HttpRequest, action: str, selection: Selection, form: forms.Form, rows: list[Row]
    ) -> HttpResponse:
        count = (
            len(selection.ids)
            or async_to_sync(api.page)(
                selection.where, limit=1, personal=may(request, "view_personal")
            ).matched
        )
        return self.page(
            request,
            "confirm",
            title=TITLES[action],
            action=action,
            action_url=self.url(action),
            count=count,
            question=QUESTIONS[action](count),
            rows=[listing.shown(row, self.admin_site.name) for row in rows],
            unlisted=max(0, len(selection.ids) - MAX_LISTED),
            subject=None if selection.ids else selection.subject,
            selection=selection.signed(action, request.user),
            form=form,
        )

    def _kick(self, request: HttpRequest, selection: Selection, values: dict[str, Any], shown: str) -> None:
        user: Any = request.user
        details = f"code {values['code']}"
        details += f", reason {values['reason']!r}" if values["reason"] else ""
        details += f", over {values['over']:g} s" if values["over"] else ""
        deed = Deed("kick", selection.subject, shown, details)
        entry = audit.enter(deed, user, selection.ids)
        done, spared = async_to_sync(api.close)(
            selection.where,
            by=user,
            spare=spares(request),
            personal=may(request, "view_personal"),
            **values,
        )
        audit.complete(entry, user, deed, selection.ids, done)
        self._tell(request, ngettext("Closed %d socket", "Closed %d sockets", done.count), done)
        if spared:
            text = _("Left open, because only a superuser may close the sockets of a superuser: %s.")
            messages.warning(request, text % ", ".join(spared))

    def _send(self, request: HttpRequest, selection: Selection, values: dict[str, Any], shown: str) -> None:
        text = values["text"]
        deed = Deed("send", selection.subject, shown, f"{len(text.encode())} bytes")
        entry = audit.enter(deed, request.user, selection.ids)
        done = async_to_sync(api.send_payload)(selection.where, "text", text, by=request.user)
        audit.complete(entry, request.user, deed, selection.ids, done)
        sent = ngettext("Sent a message to %d socket", "Sent a message to %d sockets", done.count)
        self._tell(request, sent, done)

    def _tell(self, request: HttpRequest, sentence: str, done: Done) -> None:
        """Show what was done, and which processes did not reply."""
        where = ngettext("in %d process", "in %d processes", done.processes) % done.processes
        messages.success(request, f"{sentence % done.count} {where}.")
        for warning in listing.missing(done):
            messages.warning(request, warning)

    # Processes

    def processes_view(self, request: HttpRequest) -> HttpResponse:
        found, answers = async_to_sync(api.survey_processes)()
        return self.page(
            request,
            "processes",
            title=_("Processes"),
            processes=[details.process_cells(each) for each in found],
            heads=details.PROCESS_HEADS,
            warnings=listing.missing(answers),
        )


TITLES = {"kick": gettext_lazy("Close sockets"), "message": gettext_lazy("Send a message")}
QUESTIONS: dict[str, Callable[[int], str]] = {
    "kick": lambda count: (
        ngettext(
            "Are you sure you want to close %d socket?", "Are you sure you want to close %d sockets?", count
        )
        % count
    ),
    "message": lambda count: ngettext("Send to %d socket:", "Send to %d sockets:", count) % count,
}


REFUSALS = {
    "off": gettext_lazy("Messages may not be watched: OPERATIONS_TAP is off in the process of this socket."),
    "superuser": gettext_lazy("Only a superuser may watch the messages of a superuser."),
    "foreign": gettext_lazy(
        "The messages of this socket cannot be watched: its application is not one of FastWS."
    ),
    "busy": gettext_lazy("Too many sockets of this process are being watched."),
    "gone": gettext_lazy("This socket is not open any more, or its process does not answer."),
}


def may(request: HttpRequest, permission: str) -> bool:
    user: Any = request.user
    return bool(user.has_perm(f"{APP}.{permission}"))


def spares(request: HttpRequest) -> bool:
    """Whether the user may not act on the sockets of superusers."""
    return not getattr(request.user, "is_superuser", False)


def leave_session(request: HttpRequest) -> None:
    """Let nothing save the session, not even SESSION_SAVE_EVERY_REQUEST; middleware can still read it."""
    request.session = dict(request.session.items())  # type: ignore[assignment]


def actions_of(request: HttpRequest) -> list[tuple[str, str]]:
    """The actions that the user may choose, with their texts."""
    found = []
    if may(request, "kick_livesocket"):
        found.append(("kick", _("Close selected sockets…")))
    if may(request, "message_livesocket"):
        found.append(("message", _("Send a message to selected sockets…")))
    if may(request, "kick_livesocket"):
        found.append(("kick_all", _("Close all that match…")))
    return found


def texts(query: Query, page: Any, rates: Rates) -> dict[str, Any]:
    """The sentences around the list."""
    return {
        "summary": listing.summary(page, rates),
        "footer": listing.footer(query, page),
        "warnings": listing.warnings(page),
        "empty": listing.empty(query, page),
    }


def unknown_filters(query: Query) -> str:
    return _("The list has no such filter or value: %s.") % ", ".join(query.unknown)


def totals(page: Any) -> dict[str, Any]:
    return {"total": page.total, "matched": page.matched, "processes": len(page.processes)}


def described(selection: Selection, rows: list[Row]) -> str:
    """What the log shows of a selection, without personal data."""
    if len(selection.ids) != 1 or not rows:
        return selection.subject
    row = rows[0]
    return f"{row.user or listing.DASH} {row.route} {audit.masked(row.address)}".strip()


admin.site.register(LiveSocket, LiveSocketAdmin)
