"""URLs, headers, multi-dicts and state, which behave like Starlette's."""

from fastws_compat.datastructures.headers import Headers as Headers
from fastws_compat.datastructures.headers import MutableHeaders as MutableHeaders
from fastws_compat.datastructures.multidicts import ImmutableMultiDict as ImmutableMultiDict
from fastws_compat.datastructures.multidicts import MultiDict as MultiDict
from fastws_compat.datastructures.multidicts import QueryParams as QueryParams
from fastws_compat.datastructures.state import Default as Default
from fastws_compat.datastructures.state import DefaultPlaceholder as DefaultPlaceholder
from fastws_compat.datastructures.state import State as State
from fastws_compat.datastructures.uploads import FormData as FormData
from fastws_compat.datastructures.uploads import UploadFile as UploadFile
from fastws_compat.datastructures.urls import URL as URL
from fastws_compat.datastructures.urls import Address as Address
from fastws_compat.datastructures.urls import ParsedHost as ParsedHost
from fastws_compat.datastructures.urls import URLPath as URLPath
from fastws_compat.datastructures.urls import parse_host_header as parse_host_header
