#!/usr/bin/env python3
"""Holds descriptors and a mapping of a claimed directory, and tries them all whenever a line comes in.

Each line in is answered by one line out: the names of the ways by which something was written.
"""
import mmap
import os
import sys

CLAIMED = sys.argv[1]
MINE = CLAIMED + "/mine.txt"
held = os.open(MINE, os.O_RDWR)
appending = os.open(MINE, os.O_WRONLY | os.O_APPEND)
directory = os.open(CLAIMED, os.O_RDONLY)
os.ftruncate(held, 4096)
memory = mmap.mmap(held, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
round_number = 0


def map_write():
    memory[0:1] = bytes([round_number])
    memory.flush()


def create():
    os.close(os.open("new%d" % round_number, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=directory))


def rename():
    name = "old%d" % round_number
    os.rename("sub/a", name, src_dir_fd=directory, dst_dir_fd=directory)
    os.rename(name, "sub/a", src_dir_fd=directory, dst_dir_fd=directory)


WAYS = {
    "append": lambda: os.write(appending, b"x"),
    "create": create,
    "map": map_write,
    "mode": lambda: os.fchmod(held, 0o755 if round_number % 2 else 0o644),
    "rename": rename,
    "truncate": lambda: os.ftruncate(held, 4096 + round_number),
    "write": lambda: os.pwrite(held, b"y", 10),
}

print("ready", flush=True)
for line in sys.stdin:
    round_number += 1
    worked = []
    for name, act in sorted(WAYS.items()):
        try:
            act()
            worked.append(name)
        except OSError:
            pass
    print(" ".join(worked), flush=True)
os._exit(0)
