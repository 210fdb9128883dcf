"""A worker whose requests are mishaps."""

import ctypes
import os
import stat
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "sim" / "bridge" / "worker"))
import armchair_serve as link


def echo(request, arrays):
    """What came in."""
    return {key: value for key, value in request.items() if key != "op"}, arrays


def shout(request, arrays):
    """Prints as Python, as C and as a child."""
    print("from Python")
    os.write(1, b"from C" * 20_000 + b"\n")
    os.system("echo from a child; cat")
    return {}, {}


def garbage(request, arrays):
    """Writes on the pipe that replies take."""
    for name in os.listdir("/proc/self/fd"):
        kept = int(name)
        if kept > 2 and os.path.exists(f"/proc/self/fd/{name}") and stat.S_ISFIFO(os.fstat(kept).st_mode):
            try:
                os.write(kept, b"loading the scene ... done, 2 devices\n")
            except OSError:
                continue
    return {}, {}


def fail(request, arrays):
    """An exception that nobody expects."""
    raise RuntimeError("the solver is out of memory")


def refuse(request, arrays):
    """Something that the user can mend."""
    raise link.Trouble(request["kind"], "there is no GPU")


def stop(request, arrays):
    """Ends without a word, as C code does."""
    print("CUDA error: no kernel image", flush=True)
    os._exit(3)


def hang(request, arrays):
    """Sleeps in C with the interpreter's lock held."""
    print("sleeping", flush=True)
    ctypes.PyDLL(None).sleep(1000)


def pack(request, arrays):
    """A tree there and back."""
    kept = {}
    tree = link.pack({"a": [1, None, (2.5, "b")], 3: arrays["x"], "n": arrays["x"].sum()}, kept)
    back = link.unpack(tree, kept)
    same = back["a"] == [1, None, (2.5, "b")] and (back[3] == arrays["x"]).all()
    return {"same": bool(same), "n": float(back["n"])}, kept


if __name__ == "__main__":
    link.serve({f.__name__: f for f in (echo, shout, garbage, fail, refuse, stop, hang, pack)})
