"""The worker's end of the pipes: requests in, replies out. Python 3.6 and numpy alone.

A frame is MAGIC, the length of a JSON text, the length of the arrays' bytes, the text, the bytes. The text's
entry `arrays` lists name, dtype and shape of each array, in the order of their bytes. No pickle.

The pipes are kept on descriptors of their own: what C code or Python prints on standard output goes to
standard error, and standard input is empty. An exception that a handler does not expect ends the process;
its traceback is then the last thing on standard error, from where armchair shows it.
"""

import ctypes
import fcntl
import json
import os
import random
import signal
import struct
import sys

import numpy as np

MAGIC = b"ARMB"
HEAD = struct.Struct("<4sIQ")


class Trouble(Exception):
    """Something that the user can mend.

    kind: `machine` where something is missing, `config` where a setting is wrong.
    """

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


class Channel:
    """The two pipes. Made before anything else is imported that may print."""

    def __init__(self, lifeline):
        self._source = os.fdopen(os.dup(0), "rb")
        self._sink = os.fdopen(os.dup(1), "wb")
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        die_with(lifeline)

    def receive(self):
        """(text, arrays by name) of the next request; None where armchair has closed the pipe."""
        head = self._source.read(HEAD.size)
        if len(head) < HEAD.size:
            return None
        magic, length, size = HEAD.unpack(head)
        if magic != MAGIC:
            raise ValueError("what came in is no request")
        text = json.loads(self._source.read(length).decode())
        data = self._source.read(size)
        arrays, start = {}, 0
        for name, dtype, shape in text.pop("arrays"):
            kind = np.dtype(dtype)
            count = int(np.prod(shape, dtype=np.int64))
            arrays[name] = np.frombuffer(data, kind, count, start).reshape(shape).copy()
            start += count * kind.itemsize
        return text, arrays

    def send(self, text, arrays):
        """Send a reply."""
        listed, data = [], []
        for name in sorted(arrays):
            array = np.asarray(arrays[name])
            listed.append([name, array.dtype.newbyteorder("<").str, list(array.shape)])
            data.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
        blob = json.dumps(dict(text, arrays=listed)).encode()
        joined = b"".join(data)
        self._sink.write(HEAD.pack(MAGIC, len(blob), len(joined)) + blob + joined)
        self._sink.flush()


def die_with(lifeline):
    """End this process when armchair's end of `lifeline` (a descriptor) is closed, by whatever death.

    The kernel sends SIGIO, whose default is to end the process, so that a call into C that hangs while it
    holds the interpreter's lock is ended too. PR_SET_PDEATHSIG would follow the thread that started this
    process, not armchair.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    try:
        closed = os.read(lifeline, 1) == b""
    except BlockingIOError:
        closed = False
    if closed:
        sys.exit(0)


def serve(handlers):
    """Answer requests, `{"op": name, ...}`, with `handlers[name](request, arrays) -> (text, arrays)`, until
    the pipe is closed. The script's one argument is the lifeline's descriptor."""
    channel = Channel(int(sys.argv[1]))
    while True:
        got = channel.receive()
        if got is None:
            break
        request, arrays = got
        try:
            text, out = handlers[request["op"]](request, arrays)
        except Trouble as trouble:
            text, out = {"trouble": trouble.kind, "text": str(trouble)}, {}
        channel.send(text, out)


def plain(values):
    """Entries of a dictionary that are single numbers, truth values or texts, as JSON takes them."""
    kept = {}
    for name, value in values.items():
        if isinstance(value, (np.ndarray, np.generic)) and np.size(value) == 1:
            value = np.asarray(value).ravel()[0].item()
        if isinstance(value, (bool, int, float, str)):
            kept[str(name)] = value
    return kept


def seed_all(seed):
    """Seed what old code draws from: numpy's global generator and Python's."""
    np.random.seed(seed % 2**32)
    random.seed(seed)


def pack(value, arrays):
    """A tree of dictionaries, lists, numbers, texts and arrays as JSON; the arrays go into `arrays`."""
    if isinstance(value, (np.ndarray, np.generic)):
        if np.asarray(value).dtype.kind not in "biuf":
            raise TypeError("an array of {} cannot be kept".format(np.asarray(value).dtype))
        name = "{:06d}".format(len(arrays))
        arrays[name] = np.asarray(value)
        return {"array": name}
    if isinstance(value, dict):
        return {"dict": [[pack(k, arrays), pack(v, arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [pack(entry, arrays) for entry in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError("a {} cannot be kept".format(type(value).__name__))


def unpack(tree, arrays):
    """What `pack` was given."""
    ((kind, held),) = tree.items()
    if kind == "array":
        return arrays[held][()] if arrays[held].ndim == 0 else arrays[held].copy()
    if kind == "dict":
        return {unpack(k, arrays): unpack(v, arrays) for k, v in held}
    if kind == "value":
        return held
    return {"list": list, "tuple": tuple}[kind](unpack(entry, arrays) for entry in held)


def cuda_trouble():
    """What keeps CUDA from running here, or None."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return "no NVIDIA driver ({})".format(error)
    status = driver.cuInit(0)
    if status != 0:
        return "cuInit failed with CUDA error {}; 100 means that no GPU is seen".format(status)
    return None
