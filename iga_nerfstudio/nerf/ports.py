"""Where the viewer listens."""

from __future__ import annotations

import errno
import logging
import socket

from nerfstudio.configs.base_config import ViewerConfig

logger = logging.getLogger("iga_nerfstudio")

# Nobody else can reach it.
LOOPBACK = "127.0.0.1"


def port_of(viewer: ViewerConfig, host: str) -> int:
    """A port that a viewer can have: the one asked for, else nerfstudio's, or the next that is free."""
    return find_port(host, viewer.websocket_port or viewer.websocket_port_default)


def find_port(host: str, port: int) -> int:
    """A port that the viewer can have, told where it is not the one asked for.

    Args:
        host: Address that the viewer listens on.
        port: The port asked for.

    Returns:
        The port, or the next one that is free.

    Raises:
        ValueError: If there is none, or the host is not this machine's.
    """
    for candidate in range(port, min(port + 1000, 1 << 16)):
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind((host, candidate))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ValueError(
                        f"The viewer cannot listen on {host}:{candidate}: {error.strerror}. Change "
                        "--viewer.websocket-host or --viewer.websocket-port."
                    ) from error
                continue
        if candidate != port:
            logger.warning("Port %d is in use; the viewer takes %d.", port, candidate)
        return candidate
    raise ValueError(f"The viewer found no free port from {port} on. Choose another with --viewer.websocket-port.")
