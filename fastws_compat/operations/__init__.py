"""Lists and closes the connections of all processes. Add this package to `INSTALLED_APPS`."""

from fastws_compat.operations.api import acount as acount
from fastws_compat.operations.api import akick as akick
from fastws_compat.operations.api import aprocesses as aprocesses
from fastws_compat.operations.api import asend as asend
from fastws_compat.operations.api import asockets as asockets
from fastws_compat.operations.api import count as count
from fastws_compat.operations.api import kick as kick
from fastws_compat.operations.api import processes as processes
from fastws_compat.operations.api import send as send
from fastws_compat.operations.api import sockets as sockets
from fastws_compat.operations.records import Done as Done
from fastws_compat.operations.records import Page as Page
from fastws_compat.operations.records import Process as Process
from fastws_compat.operations.records import Row as Row
