"""A process that has imported PyTorch and glam, and forks a child per command: starting `glam` takes 0.1 s, not 4.

    shell of a page --> programs/glam (`SHIM`) --Unix socket--> `main` --fork--> child runs the command line
                                               <--exit code----------------------

`glam serve` is left running: the shim returns when the service answers, and the test ends it with the page.
"""

import contextlib
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path

SHIM = """#!{python} -S
import json, os, socket, sys, time, urllib.request

arguments = sys.argv[1:]
is_service = {name!r} == "glam" and arguments[:1] == ["serve"] and "--help" not in arguments
pid_file = os.environ["SNIPPET_PID_FILE"]
if is_service:
    arguments += ["--port", os.environ["SNIPPET_PORT"]]
    if os.path.exists(pid_file):
        pid = int(open(pid_file).read())
        os.kill(pid, 15)
        while os.path.exists(f"/proc/{{pid}}"):
            time.sleep(0.05)
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = {{"name": {name!r}, "arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}}
socket.send_fds(server, [json.dumps(request).encode() + b"\\n"], [0, 1, 2])
answers = server.makefile()
pid = int(answers.readline())
if not is_service:
    sys.exit(int(answers.readline() or 139))
open(pid_file, "w").write(str(pid))
for _ in range(600):
    time.sleep(0.1)
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{{os.environ['SNIPPET_PORT']}}/readyz").read()
        sys.exit(0)
    except OSError:
        if not os.path.exists(f"/proc/{{pid}}"):
            sys.exit(1)
sys.exit("the service did not start")
"""


def write_shims(folder: Path, address: Path) -> None:
    """Write the programs `glam` and `python` that run in children of the server at this socket."""
    folder.mkdir()
    for name in ("glam", "python"):
        (folder / name).write_text(SHIM.format(python=sys.executable, name=name, address=str(address)))
        (folder / name).chmod(0o755)


def main(address: str) -> None:
    """Answer requests until the process is killed."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    import glam.app.cli.main
    import glam.app.service.app
    import glam.attention_maps
    import glam.index.operations.import_descriptors
    import glam.model  # noqa: F401

    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        content, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        while not content.endswith(b"\n"):
            content += connection.recv(1 << 20)
        if os.fork() == 0:
            listener.close()
            _run(connection, json.loads(content), files)
        for file in files:
            os.close(file)
        connection.close()


def _run(connection: socket.socket, request: dict[str, object], files: list[int]) -> None:
    """Run a command in this process, send its exit code, and exit."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.sendall(f"{os.getpid()}\n".encode())
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(dict(request["environment"]))  # type: ignore[call-overload]
    sys.argv = [str(request["name"]), *request["arguments"]]  # type: ignore[misc]
    code: object = 1
    try:
        if request["name"] == "python":
            sys.argv = sys.argv[1:]
            sys.path.insert(0, "")
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            import glam.app.cli.main

            glam.app.cli.main.main()
        code = 0
    except SystemExit as exit_:
        code = exit_.code or 0
    finally:  # it must not return to the loop of the parent
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(f"{code if isinstance(code, int) else 1}\n".encode())
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
