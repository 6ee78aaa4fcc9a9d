#!/usr/bin/env python3
"""Attacks from inside a sealed run on what the mount governs; each prints its name where it worked.

    rows.py CLAIMED UNCLAIMED        one JSON object: attack -> worked, legal -> worked

CLAIMED is a directory that is claimed, with `mine.txt` and `sub/`; UNCLAIMED a directory that is not, with
`theirs.txt`. Each attack is a row of the threat table, or a part of one; beside it stands what must work.
"""
import ctypes
import fcntl
import json
import mmap
import os
import socket
import struct
import sys
import threading

CLAIMED, UNCLAIMED = sys.argv[1:3]
MINE, THEIRS = CLAIMED + "/mine.txt", UNCLAIMED + "/theirs.txt"
LIBC = ctypes.CDLL(None, use_errno=True)
ATTACKS, LEGAL = {}, {}
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
AT_FDCWD, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = -100, 0x400, 0x1000


def attack(act):
    ATTACKS[act.__name__] = act


def legal(act):
    LEGAL[act.__name__] = act


def call(name, *args):
    if getattr(LIBC, name)(*args) < 0:
        raise OSError(ctypes.get_errno(), name)


def spoil(descriptor):
    os.write(descriptor, b"evil")
    os.close(descriptor)


def rename2(source, target, flags):
    call("renameat2", AT_FDCWD, source.encode(), AT_FDCWD, target.encode(), flags)


# write, truncate, O_DIRECT, fallocate, splice, copy_file_range, ioctl on unclaimed

@attack
def write(): spoil(os.open(THEIRS, os.O_WRONLY))
@attack
def append(): spoil(os.open(THEIRS, os.O_WRONLY | os.O_APPEND))
@attack
def read_write(): spoil(os.open(THEIRS, os.O_RDWR))
@attack
def direct(): os.close(os.open(THEIRS, os.O_WRONLY | os.O_DIRECT))
@attack
def truncate(): os.truncate(THEIRS, 0)
@attack
def open_truncate(): os.close(os.open(THEIRS, os.O_RDONLY | os.O_TRUNC))
@attack
def create(): spoil(os.open(UNCLAIMED + "/new", os.O_WRONLY | os.O_CREAT))
@attack
def fallocate():
    fd = os.open(THEIRS, os.O_RDONLY)
    call("fallocate", fd, 0, ctypes.c_long(0), ctypes.c_long(9999))
@attack
def splice():
    near, far = os.pipe()
    os.write(far, b"evil")
    os.splice(near, os.open(THEIRS, os.O_RDONLY), 4)
@attack
def copy_range(): os.copy_file_range(os.open(MINE, os.O_RDONLY), os.open(THEIRS, os.O_RDONLY), 4)
@attack
def clone(): fcntl.ioctl(os.open(THEIRS, os.O_RDONLY), 0x40049409, os.open(MINE, os.O_RDONLY))
@attack
def file_flags(): fcntl.ioctl(os.open(THEIRS, os.O_RDONLY), 0x40086602, struct.pack("l", 0x10))
@legal
def write_mine(): os.write(os.open(MINE, os.O_RDWR), b"mine")
@legal
def truncate_mine(): os.truncate(MINE, 2)
@legal
def create_mine(): os.close(os.open(CLAIMED + "/new", os.O_WRONLY | os.O_CREAT))
@legal
def copy_range_mine(): os.copy_file_range(os.open(THEIRS, os.O_RDONLY), os.open(CLAIMED + "/new", os.O_WRONLY), 4)
@legal
def read_theirs(): assert open(THEIRS).read() == "theirs\n"


# opened again: /proc/self/fd, O_PATH, /proc/self/root, `..`

@attack
def again_by_proc(): spoil(os.open("/proc/self/fd/%d" % os.open(THEIRS, os.O_RDONLY), os.O_WRONLY))
@attack
def again_by_path(): spoil(os.open("/proc/self/fd/%d" % os.open(THEIRS, os.O_PATH), os.O_RDWR))
@attack
def by_root(): spoil(os.open("/proc/self/root" + THEIRS, os.O_WRONLY))
@attack
def by_cwd():
    os.chdir(UNCLAIMED)
    spoil(os.open("/proc/self/cwd/theirs.txt", os.O_WRONLY))
@attack
def by_dots(): spoil(os.open(CLAIMED + "/../" + os.path.basename(UNCLAIMED) + "/theirs.txt", os.O_WRONLY))
@attack
def by_directory(): spoil(os.open("theirs.txt", os.O_WRONLY, dir_fd=os.open(UNCLAIMED, os.O_RDONLY)))
@legal
def again_by_proc_mine(): os.close(os.open("/proc/self/fd/%d" % os.open(MINE, os.O_RDONLY), os.O_WRONLY))


# renames: over, away, exchange, whiteout, directories

@attack
def rename_over(): os.rename(CLAIMED + "/sub/a", THEIRS)
@attack
def rename_away(): os.rename(THEIRS, CLAIMED + "/stolen")
@attack
def exchange(): rename2(MINE, THEIRS, RENAME_EXCHANGE)
@attack
def exchange_back(): rename2(THEIRS, MINE, RENAME_EXCHANGE)
@attack
def whiteout(): rename2(MINE, CLAIMED + "/white", RENAME_WHITEOUT)
@attack
def directory_in(): os.rename(CLAIMED + "/sub", UNCLAIMED + "/sub")
@attack
def directory_away(): os.rename(UNCLAIMED, CLAIMED + "/all")
@attack
def unlink(): os.unlink(THEIRS)
@attack
def make_directory(): os.mkdir(UNCLAIMED + "/d")
@legal
def rename_mine():
    os.rename(CLAIMED + "/new", CLAIMED + "/newer")
    os.unlink(CLAIMED + "/newer")
@legal
def directory_mine():
    os.rename(CLAIMED + "/sub", CLAIMED + "/sub2")
    os.rename(CLAIMED + "/sub2", CLAIMED + "/sub")
@legal
def exchange_mine(): rename2(MINE, CLAIMED + "/sub/a", RENAME_EXCHANGE)


# hard links, symbolic links, races

@attack
def link_out(): os.link(THEIRS, CLAIMED + "/link")
@attack
def link_in(): os.link(MINE, UNCLAIMED + "/link")
@attack
def link_by_descriptor():
    fd = os.open(THEIRS, os.O_RDONLY)
    os.link("/proc/self/fd/%d" % fd, CLAIMED + "/link2", follow_symlinks=True)
@attack
def through_symlink():
    os.symlink("../" + os.path.basename(UNCLAIMED) + "/theirs.txt", CLAIMED + "/way")
    try:
        spoil(os.open(CLAIMED + "/way", os.O_WRONLY))
    finally:
        os.unlink(CLAIMED + "/way")
@attack
def through_dangling():
    os.symlink("../" + os.path.basename(UNCLAIMED) + "/made", CLAIMED + "/way2")
    try:
        spoil(os.open(CLAIMED + "/way2", os.O_WRONLY | os.O_CREAT))
    finally:
        os.unlink(CLAIMED + "/way2")
@attack
def swap_race():
    """A link that is now a file of one's own, now the way to another's."""
    name, stop, worked = CLAIMED + "/race", [False], [False]

    def swap():
        while not stop[0]:
            for target in (MINE, THEIRS):
                os.symlink(target, name + ".n")
                os.rename(name + ".n", name)
    os.symlink(MINE, name)
    thread = threading.Thread(target=swap)
    thread.start()
    for _ in range(400):
        try:
            fd = os.open(name, os.O_WRONLY)
        except OSError:
            continue
        at = os.readlink("/proc/self/fd/%d" % fd)
        worked[0] |= at == THEIRS
        os.close(fd)
    stop[0] = True
    thread.join()
    os.unlink(name)
    if not worked[0]:
        raise PermissionError
@legal
def symlink_mine():
    os.symlink("mine.txt", CLAIMED + "/ok")
    os.write(os.open(CLAIMED + "/ok", os.O_WRONLY), b"x")
    os.unlink(CLAIMED + "/ok")


# components are compared, not prefixes

@attack
def longer_directory(): spoil(os.open(CLAIMED + "X/file", os.O_WRONLY))
@attack
def longer_directory_create(): spoil(os.open(CLAIMED + "X/new", os.O_WRONLY | os.O_CREAT))
@attack
def longer_name(): spoil(os.open(CLAIMED + ".txt", os.O_WRONLY))


# what is no file, directory or link

@attack
def temporary_linked():
    fd = os.open(CLAIMED, os.O_TMPFILE | os.O_WRONLY)
    os.link("/proc/self/fd/%d" % fd, UNCLAIMED + "/linked", follow_symlinks=True)
@attack
def device(): os.mknod(CLAIMED + "/null", 0o20666, os.makedev(1, 3))
@attack
def fifo(): os.mkfifo(CLAIMED + "/fifo")
@attack
def bound_socket(): socket.socket(socket.AF_UNIX).bind(CLAIMED + "/sock")


# modes, owners, times, attributes

@attack
def mode(): os.chmod(THEIRS, 0o777)
@attack
def set_id():
    os.chmod(MINE, 0o4755)
    assert os.stat(MINE).st_mode & 0o4000
@attack
def owner(): os.chown(THEIRS, os.getuid(), 0)
@attack
def times(): os.utime(THEIRS, (1, 1))
@attack
def attribute(): os.setxattr(THEIRS, "user.x", b"1")
@attack
def capability(): os.setxattr(MINE, "security.capability", b"\1\0\0\2" + b"\0" * 16)
@attack
def access_list(): os.setxattr(MINE, "system.posix_acl_access", b"\2\0\0\0\1\0\7\0\xff\xff\xff\xff")
@legal
def mode_mine(): os.chmod(MINE, 0o755)
@legal
def times_mine(): os.utime(MINE, (1, 1))


# memory

@attack
def map_shared():
    memory = mmap.mmap(os.open(THEIRS, os.O_RDONLY), 4, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    memory[:4] = b"evil"
@attack
def map_upgraded():
    LIBC.mmap.restype = ctypes.c_void_p
    at = LIBC.mmap(None, ctypes.c_size_t(4096), 1, 1, os.open(THEIRS, os.O_RDONLY), ctypes.c_long(0))
    call("mprotect", ctypes.c_void_p(at), ctypes.c_size_t(4096), 3)
@attack
def own_memory():
    LIBC.mmap.restype = ctypes.c_void_p
    at = LIBC.mmap(None, ctypes.c_size_t(4096), 1, 1, os.open(THEIRS, os.O_RDONLY), ctypes.c_long(0))
    os.pwrite(os.open("/proc/self/mem", os.O_RDWR), b"evil", at)
@legal
def map_mine():
    fd = os.open(MINE, os.O_RDWR)
    os.ftruncate(fd, 10)
    memory = mmap.mmap(fd, 4, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    memory[:4] = b"mmap"
    memory.flush()


# git's directory under any of its names, and its doors

for number, alias in enumerate([".git", ".GIT", "git~1", ".g\u200cit", ".git.", ".git ", ".git::$INDEX_ALLOCATION"]):
    def alias_directory(alias=alias):
        os.mkdir(CLAIMED + "/" + alias)
    ATTACKS["git_alias_%d" % number] = alias_directory
@attack
def git_file(): os.close(os.open(CLAIMED + "/sub/.git", os.O_WRONLY | os.O_CREAT))
@attack
def git_rename(): os.rename(CLAIMED + "/sub", CLAIMED + "/.git")
@attack
def git_link(): os.symlink("x", CLAIMED + "/.git")
TOP = os.path.dirname(CLAIMED)
for name in ["config", "hooks/pre-commit", "info/attributes", "objects/info/alternates", "commondir"]:
    def git_door(name=name):
        spoil(os.open(TOP + "/.git/" + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
    ATTACKS["git " + name] = git_door
@attack
def charter(): spoil(os.open(TOP + "/governor.md", os.O_WRONLY))
@attack
def control_zone(): spoil(os.open(TOP + "/.govfs/claims", os.O_WRONLY))
@legal
def git_works(): assert os.system("cd %s && git status --short >/dev/null && git stash list" % TOP) == 0


# outside of the mount

for path in [TOP + "/.git/govfs", os.environ["HOME"] + "/.ssh", os.environ["HOME"] + "/.config/govfs"]:
    ATTACKS["see " + os.path.basename(path)] = lambda path=path: os.stat(path)
for path in [".bashrc", ".config/systemd/user/evil.service", ".ssh/authorized_keys", ".claude/settings.json"]:
    def in_home(path=path):
        path = os.environ["HOME"] + "/" + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        spoil(os.open(path, os.O_WRONLY | os.O_CREAT))
    ATTACKS["home " + path] = in_home
@legal
def private_directories():
    for path in ("/tmp/x", "/var/tmp/x", "/dev/shm/x"):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))


def worked(act):
    home = os.getcwd()
    try:
        act()
        return True
    except (OSError, AssertionError, ValueError):
        return False
    finally:
        os.chdir(home)


found = {"attacks": {name: worked(act) for name, act in ATTACKS.items()},
         "legal": {name: worked(act) for name, act in LEGAL.items()}}
print(json.dumps(found))
