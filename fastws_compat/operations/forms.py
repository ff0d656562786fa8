"""The forms that confirm what an operator does."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from fastws_compat.connections.closing import MAX_REASON_BYTES, is_close_code
from fastws_compat.operations.api import COME_BACK

# The maximum length of a message in characters, and of the time for a kick in seconds.
MAX_TEXT, MAX_OVER = 65536, 86400


class CodeInput(forms.NumberInput):
    """A number with the two usual codes as suggestions."""

    template_name = "fastws_operations/code.html"


class KickForm(forms.Form):
    code = forms.IntegerField(
        label=_("Close code"),
        initial=COME_BACK,
        widget=CodeInput(attrs={"class": "vIntegerField", "list": "codes"}),
        help_text=_("1012 asks the client to come back, 4403 to stay away. Others: 1000–1014 and 3000–4999."),
    )
    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        widget=AdminTextInputWidget(),
        help_text=_("The reason is visible to the client. At most 123 bytes."),
    )
    over = forms.FloatField(
        label=_("Over how many seconds"),
        required=False,
        initial=0,
        min_value=0,
        max_value=MAX_OVER,
        widget=forms.NumberInput(attrs={"class": "vIntegerField"}),
        help_text=_("Spreads the closes, so that the clients do not all reconnect at once."),
    )

    def clean_code(self) -> Any:
        code = self.cleaned_data["code"]
        if not is_close_code(code):
            raise ValidationError(_("A socket cannot be closed with this code."))
        return code

    def clean_reason(self) -> Any:
        reason = self.cleaned_data["reason"]
        if len(reason.encode("utf-8", "replace")) > MAX_REASON_BYTES:
            raise ValidationError(_("The reason has more than 123 bytes."))
        return reason

    def clean_over(self) -> Any:
        return self.cleaned_data["over"] or 0


class MessageForm(forms.Form):
    text = forms.CharField(
        label=_("Message"),
        max_length=MAX_TEXT,
        strip=False,
        widget=AdminTextareaWidget(attrs={"rows": 5}),
        help_text=_("The text is sent unchanged in a text frame."),
    )

    def clean_text(self) -> Any:
        """The text as it was typed: browsers submit each line break as CR LF."""
        return self.cleaned_data["text"].replace("\r\n", "\n")
