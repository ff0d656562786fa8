"""Groups: send a message to every socket that has joined a name, in every process, with one line."""

from fastws_compat.groups.arrivals import Joined as Joined
from fastws_compat.groups.entries import Entry as Entry
from fastws_compat.groups.group import Group as Group
from fastws_compat.groups.group import Sent as Sent
from fastws_compat.groups.group import observers as observers
from fastws_compat.groups.group import record as record
from fastws_compat.groups.handlers import on as on
from fastws_compat.groups.kinds import declare as declare
from fastws_compat.groups.manager import ConnectionManager as ConnectionManager
from fastws_compat.groups.roster import Person as Person
from fastws_compat.groups.stores import Store as Store
from fastws_compat.layers.client import counters as counters
