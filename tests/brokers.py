"""A broker that misbehaves, for what no real one can be made to do: answer pings and confirm nothing, or refuse."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class Hostile:
    """Speaks just enough MQTT 5. ``answer`` gives the reason code for a publication to a topic, None for silence; where
    it raises :class:`ConnectionError` the connection is cut."""

    def __init__(self, answer: Callable[[str], int | None], silent: bool = False, deaf: bool = False) -> None:
        """``silent``: it answers nothing at all, ``deaf``: no subscription."""
        self.answer = answer
        self._deaf = deaf
        self.published: list[str] = []
        self.connections = 0
        self._silent = silent
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.getsockname()[1])

    @property
    def url(self) -> str:
        """As ``mqtt.url``."""
        return f"mqtt://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End."""
        for sock in (self._server, *self._open):
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._server.accept()
                self.connections += 1
                self._open.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), sock, sock.makefile("rb") as stream:
            while header := stream.read(1):
                length = shift = 0
                while True:
                    (byte,) = stream.read(1)
                    length |= (byte & 127) << shift
                    shift += 7
                    if not byte & 128:
                        break
                body = stream.read(length)
                if not self._silent:
                    sock.sendall(self._reply(header[0], body))

    def _reply(self, header: int, body: bytes) -> bytes:
        match header >> 4:
            case 1:
                return bytes([0x20, 3, 0, 0, 0])
            case 8 if not self._deaf:
                return bytes([0x90, 4, *body[:2], 0, 1])
            case 12:
                return bytes([0xD0, 0])
            case 3 if header >> 1 & 3:
                end = 2 + int.from_bytes(body[:2], "big")
                topic = body[2:end].decode()
                self.published.append(topic)
                code = self.answer(topic)
                return b"" if code is None else bytes([0x40, 4, *body[end : end + 2], code, 0])
        return b""


class Line:
    """A bad line to a broker: each connection is cut after ``most`` bytes have gone up."""

    def __init__(self, port: int, most: int) -> None:
        self.most = most
        self.connections = 0
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """As ``mqtt.url``."""
        return f"mqtt://127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        """End."""
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self.connections += 1
                far = socket.create_connection(("127.0.0.1", self._target))
                for source, sink, most in ((near, far, self.most), (far, near, 1 << 30)):
                    threading.Thread(target=self._carry, args=(source, sink, most), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, most: int) -> None:
        with contextlib.suppress(OSError):
            while most > 0 and (data := source.recv(min(most, 512))):
                sink.sendall(data)
                most -= len(data)
            threading.Event().wait(0.2)  # what the broker answers still comes back
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
