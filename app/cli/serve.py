"""`glam serve`: the search page and its API."""

import re
from typing import Annotated

import typer

from glam.app.cli.options import Device, IndexModel, IndexPath
from glam.errors import GlamError

Token = Annotated[
    str | None,
    typer.Option(envvar="GLAM_READ_TOKEN", metavar="TOKEN", help="Token for searching; prefer the variable."),
]
WriteToken = Annotated[
    str | None,
    typer.Option(envvar="GLAM_WRITE_TOKEN", metavar="TOKEN", help="Token for adding and removing images."),
]

COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]+")
"""Valid value of a cookie (RFC 6265): the page stores its token in one."""


def serve(
    index: IndexPath,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port; 0 for any free one.")] = 8000,
    model: IndexModel = None,
    device: Device = None,
    read_token: Token = None,
    write_token: WriteToken = None,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Let anyone on this machine add and remove images, without a token.")
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Maximum batch size of the network, in images.", show_default="by the device"
        ),
    ] = None,
    waiting: Annotated[
        int, typer.Option(min=1, metavar="N", help="Maximum length of the queue; further requests get 503.")
    ] = 128,
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Answer 503 after this time.")] = 60.0,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Time for in-flight requests to finish at shutdown.")
    ] = 30.0,
) -> None:
    """Serve the search page and its API."""
    import glam
    from glam.app.cli import terminal
    from glam.app.service.app import create_app
    from glam.app.service.middleware.access_log import log_to_stderr
    from glam.app.service.middleware.auth import Access, is_loopback
    from glam.app.service.server import check_port, make_server
    from glam.app.service.settings import ServiceLimits
    from glam.index import Index

    if allow_writes and not is_loopback(host):
        raise typer.BadParameter("--allow-writes needs a loopback address such as 127.0.0.1. Use --write-token instead")
    for name, token in (("--read-token", read_token), ("--write-token", write_token)):
        if token is not None and not COOKIE_VALUE.fullmatch(token):
            raise GlamError(
                f"{name} has characters that a cookie cannot hold. "
                "Use visible ASCII characters without quotes, commas, semicolons, and backslashes."
            )
    check_port(host, port)
    limits = ServiceLimits(uploads=waiting, waiting=2 * waiting, batch=batch, request_seconds=timeout)
    access = Access(read_token, write_token, allow_writes, loopback_only=is_loopback(host))
    opened = Index.open(index, device=device)
    images = terminal.count(len(opened), "image")
    service = create_app(opened, glam.load(model or opened.model_name, device), limits, access, owns_index=True)
    del opened  # so that its memory is freed when a newer snapshot takes its place
    shown = f"[{host}]" if ":" in host else host

    def print_address(at: int) -> None:
        terminal.note(f"{images} at http://{shown}:{at} (press Ctrl-C to stop)")

    log_to_stderr()
    make_server(service, host, port, grace, print_address).run()
