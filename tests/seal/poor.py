#!/usr/bin/env python3
"""Runs a program on a poorer machine, for tests: needs root, and leaves nothing behind.

    poor.py [no-userns] [no-landlock] [no-seccomp] [no-fuse] UID PROGRAM [ARGUMENT…]

The program runs as UID in a user namespace that maps every id to itself; there the limit of further user
namespaces can be zero, and a filter can answer for a kernel that lacks Landlock or seccomp filters.
"""
import ctypes
import os
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
NEWUSER, NEWNS = 0x10000000, 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
ENOSYS, EINVAL = 38, 22
SYS = {"x86_64": {"seccomp": 317, "prctl": 157}, "aarch64": {"seccomp": 277, "prctl": 167}}[os.uname().machine]
LANDLOCK_CREATE_RULESET = 444


def check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def one(code, jt, jf, k):
    return struct.pack("HBBI", code, jt, jf, k)


def refuse(number, errno):
    """Instructions that answer one call with an errno."""
    return [one(0x20, 0, 0, 0), one(0x15, 0, 1, number), one(0x06, 0, 0, 0x00050000 | errno)]


def refuse_filters():
    """Answers seccomp(2), and prctl(2) where it asks for a filter."""
    prctl = [one(0x20, 0, 0, 0), one(0x15, 0, 3, SYS["prctl"]), one(0x20, 0, 0, 16),
             one(0x15, 0, 1, PR_SET_SECCOMP), one(0x06, 0, 0, 0x00050000 | EINVAL)]
    return refuse(SYS["seccomp"], ENOSYS) + prctl


def load(instructions):
    program = b"".join(instructions + [one(0x06, 0, 0, 0x7FFF0000)])
    held = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))
    check(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(fprog), 0, 0), "the filter")


def mount(source, target, flags):
    check(LIBC.mount(source, target, None, ctypes.c_ulong(flags), None), "mount")


def mapped():
    """Enters a user namespace in which every id is itself; the parent writes the maps."""
    parent = os.getpid()
    near, far = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.read(near[0], 1)
        for kind in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (parent, kind), "w") as out:
                out.write("0 0 65536")
        os.write(far[1], b"x")
        os._exit(0)
    check(LIBC.unshare(NEWUSER | NEWNS), "unshare")
    os.write(near[1], b"x")
    os.read(far[0], 1)
    os.waitpid(child, 0)
    for end in near + far:
        os.close(end)


lacks, rest = [], sys.argv[1:]
while rest[0].startswith("no-"):
    lacks.append(rest.pop(0))
uid, argv = int(rest[0]), rest[1:]

node = os.environ.pop("FUSE_NODE", "")
mapped()
mount(b"none", b"/", MS_REC | MS_PRIVATE)
if "no-fuse" in lacks:
    mount(b"/dev/null", b"/dev/fuse", MS_BIND)
elif node:
    mount(node.encode(), b"/dev/fuse", MS_BIND)
if "no-userns" in lacks:
    with open("/proc/sys/user/max_user_namespaces", "w") as out:
        out.write("0")
if "no-landlock" in lacks:
    load(refuse(LANDLOCK_CREATE_RULESET, ENOSYS))
if "no-seccomp" in lacks:
    load(refuse_filters())
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
os.execvp(argv[0], argv)
