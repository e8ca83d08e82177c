"""A seccomp program: what a confined process may not ask of the kernel, as classic BPF (seccomp(2)).

Everything else is allowed: what keeps files, processes and the network apart is the work of namespaces or of Landlock.
"""

from __future__ import annotations

import platform
import struct

_LD_W, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _EACCES, _ENOSYS = 1, 13, 38
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24  # offsets in struct seccomp_data; the low half of an argument comes first
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_INET, _AF_INET6, _AF_NETLINK = 2, 10, 16
_X32 = 0x40000000

#: Machine -> its number, then the numbers of the calls in the order of `_CALLS`; -1 = it has no such call.
_CALLS = (
    "acct", "add_key", "bpf", "chroot", "clock_adjtime", "clock_settime", "create_module", "delete_module", "finit_module",
    "fsconfig", "fsmount", "fsopen", "fspick", "init_module", "ioperm", "iopl", "kexec_file_load", "kexec_load", "keyctl",
    "lookup_dcookie", "mount", "mount_setattr", "move_mount", "name_to_handle_at", "open_by_handle_at", "open_tree",
    "perf_event_open", "pivot_root", "quotactl", "reboot", "request_key", "setdomainname", "sethostname", "setns",
    "settimeofday", "swapoff", "swapon", "syslog", "umount2", "unshare", "userfaultfd", "vhangup",
)  # fmt: skip
_NUMBERS: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        dict(
            zip(
                [*_CALLS, "clone", "clone3", "io_uring_setup", "ioctl", "socket"],
                [
                    163, 248, 321, 161, 305, 227, 174, 176, 313, 431, 432, 430, 433, 175, 173, 172,
                    320, 246, 250, 212, 165, 442, 429, 303, 304, 428, 298,
                    155, 179, 169, 249, 171, 170, 308, 164, 168, 167, 103, 166, 272, 323, 153,
                    56, 435, 425, 16, 41,
                ],
                strict=True,
            )
        ),
    ),
    "aarch64": (
        0xC00000B7,
        dict(
            zip(
                [*_CALLS, "clone", "clone3", "io_uring_setup", "ioctl", "socket"],
                [
                    89, 217, 280, 51, 266, 112, -1, 106, 273, 431, 432, 430, 433, 105, -1, -1,
                    294, 104, 219, 18, 40, 442, 429, 264, 265, 428, 241,
                    41, 60, 142, 218, 162, 161, 268, 170, 225, 224, 116, 39, 97, 282, 58,
                    220, 435, 425, 29, 198,
                ],
                strict=True,
            )
        ),
    ),
}  # fmt: skip


def program(network: bool = True) -> bytes:
    """The program for this machine, as an array of `struct sock_filter`; empty if nothing is known about the machine.

    Args:
        network: whether internet sockets may be made; false where no network namespace keeps them from going out.
    """
    found = _NUMBERS.get(platform.machine())
    if found is None:
        return b""
    arch, numbers = found
    code = [_op(_LD_W, _ARCH), _op(_JEQ, arch, 1, 0), _refuse(_ENOSYS), _op(_LD_W, _NR)]
    if platform.machine() == "x86_64":
        code += [_op(_JGE, _X32, 0, 1), _refuse(_ENOSYS)]
    for name in _CALLS:
        if numbers[name] >= 0:
            code += [_op(_JEQ, numbers[name], 0, 1), _refuse(_EPERM)]
    for name in ("clone3", "io_uring_setup"):  # programs do without if it is not there; its arguments cannot be looked at
        code += [_op(_JEQ, numbers[name], 0, 1), _refuse(_ENOSYS)]
    code += _judged(numbers["clone"], _ARG0, [_op(_JSET, _NEW_NAMESPACES, 0, 1), _refuse(_EPERM)])
    inputs = [_op(_JEQ, _TIOCSTI, 1, 0), _op(_JEQ, _TIOCLINUX, 0, 1), _refuse(_EPERM)]
    code += _judged(numbers["ioctl"], _ARG1, inputs)
    families = (_AF_INET, _AF_INET6, _AF_NETLINK) if network else ()
    sockets = [_op(_JEQ, family, len(families) - at, 0) for at, family in enumerate(families)]
    code += _judged(numbers["socket"], _ARG0, [*sockets, _refuse(_EACCES)])
    return b"".join([*code, _op(_RET, _ALLOW)])


def _judged(number: int, argument: int, rules: list[bytes]) -> list[bytes]:
    """Rules about one argument of one call. What none of them refuses is allowed."""
    body = [_op(_LD_W, argument), *rules, _op(_RET, _ALLOW)]
    return [_op(_JEQ, number, 0, len(body)), *body]


def _refuse(error: int) -> bytes:
    return _op(_RET, _ERRNO | error)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
