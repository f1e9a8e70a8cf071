# SPDX-License-Identifier: Apache-2.0
"""Serving of the page: on this machine only unless another address is given, without a network."""

import errno
import ipaddress
import os
import re
import socket
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pippin.config import ConfigError
from pippin.system.installation import pip_command

if TYPE_CHECKING:
    from pippin.app.session import PlaySession

LOOPBACK = "127.0.0.1"
FIRST_PORT, NUM_PORTS = 7860, 100
FONTS = ("system-ui", "sans-serif")
MONOSPACE_FONTS = ("ui-monospace", "monospace")
FILE_ROUTES = re.compile(r"(/gradio_api)?/(file[=/]|proxy=|upload|process_recording)")
"""Begin of the paths that read, fetch or write files."""
SMALL_TILE, LARGE_TILE = 88, 176
"""Smallest width of an image on a wide page, in pixels of the page."""


def require_gradio() -> None:
    """Check that the extra ``ui`` is installed.

    Raises:
        ConfigError: with the command that installs it.
    """
    if find_spec("gradio") is None:
        raise ConfigError(f"pippin play needs the package gradio: {pip_command('ui')}")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address.

    Raises:
        ConfigError: neither localhost nor a numeric address.
    """
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError as error:
        raise ConfigError(
            f"--address must be a numeric address of this machine, such as 127.0.0.1 or 0.0.0.0; "
            f"got {address!r:.80}"
        ) from error


def free_port(address: str, port: int | None) -> int:
    """The port to listen on: the given one, or the first free one from 7860.

    Raises:
        ConfigError: the port, or each of them, is in use or not permitted, or the address is one
            of another machine.
    """
    ports = range(FIRST_PORT, FIRST_PORT + NUM_PORTS) if port is None else [port]
    reason = ""
    for candidate in ports:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, candidate))
                return int(probe.getsockname()[1])
            except (OSError, OverflowError) as error:
                if getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
                    raise ConfigError(
                        f"--address {address} is not an address of this machine: leave --address "
                        "out, or give one of its own, such as 0.0.0.0 for all"
                    ) from error
                reason = getattr(error, "strerror", None) or str(error)
    tried = f"port {port}" if port is not None else f"ports {ports[0]} to {ports[-1]}"
    raise ConfigError(f"{tried} of {address} cannot be used: {reason}; give another --port")


def serve(session: "PlaySession", address: str = LOOPBACK, port: int | None = None) -> Any:
    """Start the server in a thread.

    gradio's usage statistics, its public links, its version check and its web fonts are off.
    Requests for other host names are refused on a loopback address, so that a web page cannot
    reach the server under a name of its own. Requests for files are refused on every address.

    Args:
        session: the models.
        address: address to listen on.
        port: port to listen on; None = the first free one from 7860.

    Returns:
        gradio's page: ``local_url`` is its URL, and ``close()`` ends it.

    Raises:
        ConfigError: gradio is missing, or address or port cannot be used.
    """
    require_gradio()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    from pippin.app.page import build_page

    page = build_page(session)
    theme = gr.themes.Base(
        primary_hue="indigo", neutral_hue="slate", font=FONTS, font_mono=MONOSPACE_FONTS
    )
    page.launch(
        server_name=address,
        server_port=free_port(address, port),  # late: others may take a port meanwhile
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inbrowser=False,
        ssr_mode=False,
        mcp_server=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        max_file_size="1kb",  # the page takes no files
        app_kwargs={"middleware": _middleware(address)},
        theme=theme,
        css=_css(session),
    )
    return page


def _css(session: "PlaySession") -> str:
    """Styles of the page; images of more pixels are shown larger."""
    side = max(model.run.recipe.data.resolution for model in session.models)
    tile = SMALL_TILE if side <= 2 * SMALL_TILE else LARGE_TILE
    styles = files("pippin.app").joinpath("page.css").read_text(encoding="utf-8")
    return f":root {{ --play-tile: {tile}px; }}\n{styles}"


class RefusedFiles:
    """ASGI middleware that refuses gradio's routes of files and recordings.

    The page has none, and a request for ``file=URL`` would make the server fetch that URL.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer 403 on the routes of files; pass everything else on."""
        if scope["type"] != "http" or not FILE_ROUTES.match(scope["path"]):
            await self.app(scope, receive, send)
            return
        head = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 403, "headers": head})
        await send({"type": "http.response.body", "body": b"this page has no files"})


def _middleware(address: str) -> list[Any]:
    """Middleware that refuses files, and other host names on a loopback address of IPv4."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    refused = [Middleware(RefusedFiles)]
    if not is_loopback(address) or ":" in address:  # TrustedHost cannot split [::1]:7860
        return refused
    hosts = [LOOPBACK, "localhost", address]
    return [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), *refused]
