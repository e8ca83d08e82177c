"""Confines itself and becomes a program: `python -I -S confine.py JSON PROGRAM [ARGUMENT]...`, by system calls alone.

`skep.security.landlock` starts it; so does bubblewrap where hosts are to be reached, and then it only makes the network. It
imports nothing of Skep and little of the standard library, so that it starts quickly. It fails closed: an error ends it with
126 before the program runs.

JSON: `namespaces` (whether network, ipc and host name are to be its own), `door`, `listeners` and `nonce` (where listeners are
handed over, and on which addresses; see `skep.security.egress`), and `read`, `write` (paths), `filter` (a file), which
bubblewrap does itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import socket
import struct
import sys

#: landlock(7): system calls (the same on every machine), and what a rule speaks of.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_EXECUTE, _WRITE, _READ, _LIST, _TRUNCATE, _IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_ON_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
_SCOPES = 0b11  # abstract Unix sockets, signals
_NEW_IPC, _NEW_UTS, _NEW_USER, _NEW_NET = 0x08000000, 0x04000000, 0x10000000, 0x40000000  # sched.h
_SET_SECCOMP, _SECCOMP_FILTER, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAPABILITIES = 22, 2, 24, 38, 64
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # of network interfaces
_PATH_ONLY = 0o10000000  # O_PATH

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The kernel's version of Landlock, 0 if it has none or it is off."""
    return max(0, int(_libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def _checked(answer: int, what: str) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return answer


def _separate() -> None:
    """Own network (with a loopback of its own), ipc and host name."""
    uid, gid = os.getuid(), os.getgid()
    spaces = _NEW_IPC | _NEW_UTS | _NEW_NET
    if uid:
        _checked(_libc.unshare(spaces | _NEW_USER), "unshare")
        for file, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{file}", "w") as taken:
                taken.write(line)
    else:
        _checked(_libc.unshare(spaces), "unshare")
    with socket.socket() as any_socket:
        request = fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("H", request, 16)
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))


def _hand_over(door: socket.socket, places: list[tuple[str, int]], nonce: str) -> None:
    """Makes the listeners of the proxy in this network and gives them away; comes back when they are served."""
    listeners = []
    with contextlib.ExitStack() as stack, door:
        for host, port in places:
            listener = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            listener.bind((host, port))
            listener.listen(64)
            listeners.append(listener.fileno())
        socket.send_fds(door, [nonce.encode()], listeners)
        if not door.recv(1):
            raise OSError("the proxy does not serve this attempt")


def _renounce() -> None:
    """No capability, now or by whatever is executed."""
    for number in range(_CAPABILITIES):
        _libc.prctl(_CAPBSET_DROP, number, 0, 0, 0)  # refused where there is none, which is as well
    header, nothing = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    _checked(_libc.capset(header, nothing), "capset")
    _checked(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def _restrict(read: list[str], write: list[str]) -> None:
    """Landlock: these paths and no other."""
    version = abi()
    every = next(mask for least, mask in sorted(_ALL_BY_ABI.items(), reverse=True) if version >= least)
    rules = struct.pack("=QQQ", every, 0, _SCOPES if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _checked(_libc.syscall(CREATE_RULESET, rules, ctypes.c_size_t(size), 0), "landlock")
    for paths, allowed in ((read, _EXECUTE | _READ | _LIST | _IOCTL), (write, every)):
        for path in paths:
            try:
                place = os.open(path, _PATH_ONLY | os.O_CLOEXEC)
            except OSError:
                continue  # what is not there cannot be allowed
            mask = allowed & every & (-1 if os.path.isdir(path) else _ON_FILES)
            rule = struct.pack("=Qi", mask, place)
            _checked(_libc.syscall(ADD_RULE, ruleset, _PATH_BENEATH, rule, 0), f"landlock, {path}")
            os.close(place)
    _checked(_libc.syscall(RESTRICT_SELF, ruleset, 0), "landlock")
    os.close(ruleset)


def _filter(code: bytes) -> None:
    """Seccomp."""
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    _checked(_libc.prctl(_SET_SECCOMP, _SECCOMP_FILTER, program, 0, 0), "seccomp")


def main(said: str, *argv: str) -> None:
    """Never returns."""
    try:
        bounds = json.loads(said)
        door = socket.socket(socket.AF_UNIX)
        if bounds["door"]:
            folder = os.open(os.path.dirname(bounds["door"]), _PATH_ONLY | os.O_CLOEXEC)
            door.connect(f"/proc/self/fd/{folder}/{os.path.basename(bounds['door'])}")  # a socket's name must be short
        if bounds["namespaces"]:
            _separate()
        if bounds["door"]:
            _hand_over(door, bounds["listeners"], bounds["nonce"])
        if "filter" not in bounds:
            os.execve(argv[0], argv, os.environ)
        with open(bounds["filter"], "rb") as file:
            code = file.read()
        places = [""] if "/" in argv[0] else [f"{place}/" for place in os.get_exec_path()]
        write = list(bounds["write"])
        if os.isatty(1):
            write.append(os.ttyname(1))
        _renounce()
        _restrict(bounds["read"], write)
        _filter(code)
        for place in places:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                os.execve(place + argv[0], argv, os.environ)
        os.write(2, f"skep: {argv[0]} is not there for a confined program\n".encode())
        os._exit(127)
    except (OSError, ValueError, KeyError) as error:
        os.write(2, f"skep: the program was not started: {error}\n".encode())
        os._exit(126)


if __name__ == "__main__":
    main(*sys.argv[1:])
