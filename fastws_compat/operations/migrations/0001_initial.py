"""The content type and the permissions of the open sockets; there is no table."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar = []
    operations: ClassVar = [
        migrations.CreateModel(
            name="LiveSocket",
            fields=[
                ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
            ],
            options={
                "verbose_name": "socket",
                "verbose_name_plural": "sockets",
                "managed": False,
                "base_manager_name": "objects",
                "default_permissions": ("view",),
                "permissions": [
                    ("kick_livesocket", "Can close sockets"),
                    ("message_livesocket", "Can send messages to sockets"),
                    ("tap_livesocket", "Can watch the messages of a socket"),
                    ("view_personal", "Can see addresses, paths and agents"),
                ],
            },
        ),
    ]
