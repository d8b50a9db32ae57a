"""`glam serve`: the search page and its API."""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glam.app.cli.options import Device, IndexModel, IndexPath, not_nan
from glam.app.cli.tokens import find_token, hide_argument

if TYPE_CHECKING:
    from glam.app.service.server import Network

Token = Annotated[
    str | None,
    typer.Option(
        envvar="GLAM_READ_TOKEN",
        callback=hide_argument,
        metavar="TOKEN",
        help="Token for searching; prefer the variable.",
    ),
]
TokenFile = Annotated[
    Path | None, typer.Option(envvar="GLAM_READ_TOKEN_FILE", metavar="FILE", help="File with the token for searching.")
]
WriteToken = Annotated[
    str | None,
    typer.Option(
        envvar="GLAM_WRITE_TOKEN", callback=hide_argument, metavar="TOKEN", help="Token for adding and removing images."
    ),
]
WriteTokenFile = Annotated[
    Path | None, typer.Option(envvar="GLAM_WRITE_TOKEN_FILE", metavar="FILE", help="File with the token for writing.")
]

ORIGIN = re.compile(r"https?://[^/\s]+")

MEMORY = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<prefix>[KMGT]?)(?P<binary>i?)B?", re.IGNORECASE)


def serve(
    index: IndexPath,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port; 0 for any free one.")] = 8000,
    model: IndexModel = None,
    device: Device = None,
    read_token: Token = None,
    read_token_file: TokenFile = None,
    write_token: WriteToken = None,
    write_token_file: WriteTokenFile = None,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Let anyone on this machine add and remove images, without a token.")
    ] = False,
    public_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Name by which a proxy makes the service reachable.")
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Proxy whose X-Forwarded-For names the client.")
    ] = None,
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="Path below which a proxy serves the page, such as /photos.")
    ] = "",
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="Site whose pages may use the API: https://NAME.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Memory of the service, such as 4GB.", show_default="a quarter of the machine"
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Maximum batch size of the network, in images.", show_default="by the device"
        ),
    ] = None,
    waiting: Annotated[
        int, typer.Option(min=1, metavar="N", help="Maximum length of the queue; further requests get 503.")
    ] = 128,
    timeout: Annotated[
        float, typer.Option(min=1, callback=not_nan, metavar="SECONDS", help="Answer 503 after this time.")
    ] = 60.0,
    grace: Annotated[
        float,
        typer.Option(
            min=0, callback=not_nan, metavar="SECONDS", help="Time for in-flight requests to finish at shutdown."
        ),
    ] = 30.0,
) -> None:
    """Serve the search page and its API."""
    import glam
    from glam.app.cli import terminal
    from glam.app.service.app import create_app
    from glam.app.service.log import log, log_to_stderr
    from glam.app.service.middleware.auth import Access, is_loopback
    from glam.app.service.server import check_port, make_server, raise_file_limit
    from glam.app.service.settings import ServiceLimits
    from glam.index import Index

    if allow_writes and not is_loopback(host):
        raise typer.BadParameter("--allow-writes needs a loopback address such as 127.0.0.1. Use --write-token instead")
    access = Access(
        find_token("--read-token", read_token, read_token_file),
        find_token("--write-token", write_token, write_token_file),
        allow_writes,
        loopback_only=is_loopback(host),
        public_hosts=tuple(map(_check_name, public_host or ())),
        allowed_origins=tuple(map(_check_origin, allow_origin or ())),
    )
    limits = ServiceLimits(
        uploads=waiting, waiting=2 * waiting, batch=batch, request_seconds=timeout, memory_bytes=_parse_memory(memory)
    )
    proxies = [_check_network(address) for address in trusted_proxy or ()]
    path = _check_root_path(root_path)
    check_port(host, port)
    if not is_loopback(host) and access.read_token is None and access.write_token is None:
        raise typer.BadParameter(
            "without a token, the service listens on loopback addresses only. Set GLAM_READ_TOKEN, or leave out --host"
        )
    raise_file_limit()
    opened = Index.open(index, device=device)
    images = terminal.count(len(opened), "image")
    service = create_app(
        opened, glam.load(model or opened.model_name, device), limits, access, root_path=path, owns_index=True
    )
    del opened  # so that its memory is freed when a newer snapshot takes its place
    shown = f"[{host}]" if ":" in host else host

    def log_address(at: int) -> None:
        log.info(f"{images} at http://{shown}:{at} (press Ctrl-C to stop)")

    with log_to_stderr():
        make_server(
            service, host, port, grace, log_address, trusted_proxies=proxies, on_overdue=lambda: os._exit(1)
        ).run()


def _check_name(name: str) -> str:
    from glam.app.service.middleware.auth import host_name

    if not host_name(name) or "://" in name:
        raise typer.BadParameter(f"{name!r} is not the name of a host. Use one such as photos.example.org")
    return host_name(name).lower()


def _check_origin(origin: str) -> str:
    if not ORIGIN.fullmatch(origin):
        raise typer.BadParameter(f"{origin!r} is not an origin. Use one such as https://photos.example.org")
    return origin.lower()


def _check_network(address: str) -> "Network":
    try:
        return ip_network(address, strict=False)
    except ValueError as error:
        raise typer.BadParameter(f"{address!r} is not an IP address or network. Use one such as 10.0.0.5") from error


def _check_root_path(path: str) -> str:
    if path in ("", "/"):
        return ""
    if not path.startswith("/") or "//" in path or path.startswith("/api"):
        raise typer.BadParameter(f"{path!r} is not a path for --root-path. Use one such as /photos")
    return path.rstrip("/")


def _parse_memory(text: str | None) -> int | None:
    """Bytes of a size such as 4GB, 512MiB, or 1500000000."""
    if text is None:
        return None
    found = MEMORY.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a size. Use one such as 4GB or 1500MB")
    base = 1024 if found["binary"] else 1000
    return int(float(found["number"]) * base ** " KMGT".index(found["prefix"].upper() or " "))
