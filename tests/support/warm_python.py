"""A Python that starts at once: its programs are forked from a process that has already imported the package.

A program gets its own arguments, environment, folder and streams, as from ``python``; it only need not wait the
seconds that the imports take.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STREAMS = (0, 1, 2)


@contextlib.contextmanager
def warm_python() -> Iterator[list[str]]:
    """The words that stand for ``python`` in a command, for as long as the context lasts."""
    if sys.platform != "linux":
        yield [sys.executable]
        return
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "socket")
        server = subprocess.Popen(
            [sys.executable, __file__, "serve", address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert server.stdin is not None and server.stdout is not None
        assert server.stdout.readline() == b"ready\n", "the server did not start"
        try:
            yield [sys.executable, "-E", "-S", __file__, "run", address]
        finally:
            server.stdin.close()
            server.wait(timeout=60)
            server.stdout.close()


def serve(address: str) -> None:
    """Fork a process for every program asked for, until the standard input is closed."""
    del sys.path[0]
    import vfm_isbench.cli.commands  # noqa: F401 # the room itself imports little

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        os.write(1, b"ready\n")
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                answer(connection)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
    # Python would take seconds to tidy up.
    os._exit(0)


def answer(connection: socket.socket) -> None:
    """Become the program that a client asks for, tell its exit code, and end."""
    with connection.makefile("rb") as lines:
        _, streams, _, _ = socket.recv_fds(connection, 1, len(STREAMS))
        asked = json.loads(lines.readline())
    for stream, sent in zip(STREAMS, streams, strict=True):
        os.dup2(sent, stream)
        os.close(sent)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[:0] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    code = exit_code(asked["words"])
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([code]))
    os._exit(code)


def exit_code(words: list[str]) -> int:
    option, program, *arguments = words
    sys.argv = [option, *arguments]
    try:
        if option == "-m":
            sys.path[0] = str(Path.cwd())
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            assert option == "-c", "only -m MODULE and -c CODE are understood"
            exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code: Any = end.code
        if code is None or isinstance(code, int):
            return (code or 0) & 255
        sys.stderr.write(f"{code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run(address: str, words: list[str]) -> int:
    """Have the server run a program with this process's environment, folder and streams."""
    asked = {"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b"\n"], STREAMS)
        connection.sendall(json.dumps(asked).encode() + b"\n")
        code = connection.recv(1)
    if not code:
        sys.stderr.write("the program ended without an exit code\n")
    return code[0] if code else 1


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(run(sys.argv[2], sys.argv[3:]))
