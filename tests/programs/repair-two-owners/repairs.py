"""One owner a block: the request was freed, the session has it now."""

from instar.ext import Pointer, past, repair


@repair("request")
def forget(request: Pointer) -> None:
    if int(request) == int(past.session):
        past.request = None
