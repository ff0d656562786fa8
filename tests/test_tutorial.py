"""The tutorial, followed exactly: its blocks are put into the project of Django's own tutorial."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()

MODELS = """
from django.db import models


class Question(models.Model):
    question_text = models.CharField(max_length=200)
    pub_date = models.DateTimeField("date published")

    def __str__(self):
        return self.question_text


class Choice(models.Model):
    question = models.ForeignKey(Question, on_delete=models.CASCADE)
    choice_text = models.CharField(max_length=200)
    votes = models.IntegerField(default=0)
"""

VIEWS = """
from django.db.models import F
from django.http import HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views import generic

from .models import Choice, Question


class ResultsView(generic.DetailView):
    model = Question
    template_name = "polls/results.html"


def vote(request, question_id):
    question = get_object_or_404(Question, pk=question_id)
    try:
        selected_choice = question.choice_set.get(pk=request.POST["choice"])
    except (KeyError, Choice.DoesNotExist):
        return render(request, "polls/results.html", {"question": question})
    else:
        selected_choice.votes = F("votes") + 1
        selected_choice.save()
        return HttpResponseRedirect(reverse("polls:results", args=(question.id,)))
"""

SAVED = """\
        selected_choice.votes = F("votes") + 1
        selected_choice.save()
"""

URLS = """
from django.urls import path

from . import views

app_name = "polls"
urlpatterns = [
    path("<int:pk>/results/", views.ResultsView.as_view(), name="results"),
    path("<int:question_id>/vote/", views.vote, name="vote"),
]
"""

PROJECT_URLS = """
from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("polls/", include("polls.urls")), path("admin/", admin.site.urls)]
"""

# Added to the tutorial's tests: the content of the page in step 7.
PAGE_TEST = """

class PageTests(TestCase):
    def test_page_names_the_socket(self):
        question = Question.objects.create(question_text="What's new?", pub_date=timezone.now())
        self.client.force_login(User.objects.create_user("ann", is_staff=True))
        response = self.client.get(reverse("polls:live", args=[question.pk]))
        self.assertContains(response, f'data-url="ws://testserver/ws/polls/{question.pk}"')
"""


def block(start: str, language: str = "python") -> str:
    """The only block of the tutorial that starts with this text."""
    found = re.findall(rf"^```{language}\n({re.escape(start)}.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)
    [source] = found
    return str(source)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} in {path.name}"
    path.write_text(text.replace(old, new))


def manage(project: Path, *args: str, typed: str = "") -> str:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "mysite.settings"}
    done = subprocess.run(
        [sys.executable, "manage.py", *args],
        cwd=project,
        env=environ,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def polls(directory: Path) -> Path:
    """The project at the end of Django's tutorial."""
    subprocess.run(
        [sys.executable, "-m", "django", "startproject", "mysite"], cwd=directory, check=True, timeout=60
    )
    project = directory / "mysite"
    manage(project, "startapp", "polls")
    files = {"polls/models.py": MODELS, "polls/views.py": VIEWS, "polls/urls.py": URLS}
    for name, text in {**files, "mysite/urls.py": PROJECT_URLS}.items():
        (project / name).write_text(text)
    pages = project / "polls" / "templates" / "polls"
    pages.mkdir(parents=True)
    (pages / "results.html").write_text("{{ question }}")
    return project


def test_tutorial(tmp_path: Path) -> None:
    project = polls(tmp_path)

    # 2 and 3: settings and the import
    settings = project / "mysite" / "settings.py"
    apps = re.sub(
        r"INSTALLED_APPS = \[.*?\n\]\n", block("INSTALLED_APPS"), settings.read_text(), flags=re.DOTALL
    )
    settings.write_text(apps + block("ASGI_APPLICATION"))
    (project / "mysite" / "asgi.py").write_text(block("import os"))

    # 4: a socket
    (project / "polls" / "sockets.py").write_text(block("from fastws_compat import WebSocket, websocket"))
    manage(project, "makemigrations", "polls")
    assert "no issues (0 silenced)" in manage(project, "check")
    shown = block("$ python manage.py check", "console").split("ws_routes\n")[1]
    assert manage(project, "ws_routes") == shown
    lines = re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", block("$ python manage.py shell", "console"), re.MULTILINE)
    typed = "\n".join(lines).replace("socket.receive_json()", "print(socket.receive_json())")
    assert "{'question': 1}" in manage(project, "shell", typed=typed + "\n")

    # 5 to 7: the question, the group, the page
    models, views = project / "polls" / "models.py", project / "polls" / "views.py"
    replace(models, "\n\nclass Choice", "\n" + block("    def votes") + "\n\nclass Choice")
    (project / "polls" / "sockets.py").write_text(block("from typing import Annotated"))
    replace(views, SAVED, block("        selected_choice.votes"))
    imports = block("from django.contrib.admin.views.decorators")
    views.write_text(imports + views.read_text() + "\n\n" + block("@staff_member_required"))
    replace(project / "polls" / "urls.py", "\n]", "\n    " + block("path(") + "]")
    (project / "polls" / "templates" / "polls" / "live.html").write_text(
        block("{% load fastws static %}", "html")
    )
    assert "no issues (0 silenced)" in manage(project, "check")

    # 9: the tests
    (project / "polls" / "tests.py").write_text(block("from django.contrib.auth.models") + dedent(PAGE_TEST))
    result = manage(project, "test", "polls")
    assert "Ran 3 tests" in result
    assert "no issues (0 silenced)" in result
