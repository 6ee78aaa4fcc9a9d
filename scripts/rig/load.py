#!/usr/bin/env python3
"""The load of a fault round, and what may be expected of it afterwards.

Owns: a writer that puts down what it is about to do and what came of it, in a
file outside of the mount, one line before and one after each system call; and the
model that reads those lines back and says for each path what may stand there.
An operation that was answered must be seen whole; one that was not answered, or
that failed, may be seen or not. Knows nothing of govfs.

  load.py DIR RECORD SEED THREADS SECONDS [calm|small|large|synced]
"""
import errno, hashlib, json, os, random, sys, threading, time

# The mount is gone: nothing more can be learnt from trying.
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ESHUTDOWN)


def data(seed, thread, number, size):
    """The bytes of one write; the model makes them again."""
    return random.Random(f"{seed}/{thread}/{number}").randbytes(size)


class Writer(threading.Thread):
    def __init__(self, top, record, seed, number, until, kind):
        super().__init__(daemon=True)
        self.top, self.seed, self.number, self.until, self.kind = top, seed, number, until, kind
        self.rng = random.Random(f"{seed}/{number}")
        self.out = os.open(f"{record}.{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.count, self.names, self.files, self.gone = 0, 0, {}, False

    def note(self, **what):
        os.write(self.out, json.dumps(what).encode() + b"\n")

    def try_it(self, op, path, act, **more):
        """Does one system call, recorded before and after. False: it failed."""
        self.count += 1
        number = self.count
        self.note(n=number, op=op, path=path, **more)
        try:
            result = act(number)
        except OSError as error:
            self.note(n=number, errno=error.errno)
            self.gone |= error.errno in GONE
            return False
        self.note(n=number, ok=result if isinstance(result, int) else 0)
        return True

    def at(self, path):
        return os.path.join(self.top, path)

    def fresh(self):
        self.names += 1
        return f"t{self.number}/f{self.names}"

    def size(self):
        if self.kind == "small":
            return self.rng.randint(1, 2000)
        if self.kind == "large":
            return self.rng.randint(1 << 16, 1 << 19)
        return self.rng.choice([self.rng.randint(1, 9000)] * 9 + [self.rng.randint(1 << 17, 1 << 20)])

    def write(self, fd, path, offset, size):
        return self.try_it("write", path, lambda n: os.pwrite(fd, data(self.seed, self.number, n, size), offset),
                           offset=offset, size=size)

    def opened(self, path, flags, each):
        """Opens a file that exists and hands it to `each`."""
        try:
            fd = os.open(self.at(path), flags)
        except OSError as error:
            self.gone |= error.errno in GONE
            return False
        try:
            return each(fd)
        finally:
            try:
                os.close(fd)
            except OSError:
                pass  # what a close says is no acknowledgement of anything here

    def make(self, path, pieces, sync):
        handle = []
        if not self.try_it("create", path, lambda n: handle.append(
                os.open(self.at(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))):
            return False
        fd, offset, fine = handle[0], 0, True
        try:
            for _ in range(pieces):
                size = self.size()
                fine = fine and self.write(fd, path, offset, size)
                offset += size
            if fine and sync:
                fine = self.try_it("fsync", path, lambda n: os.fsync(fd))
        finally:
            try:
                os.close(fd)
            except OSError:
                pass
        if fine:
            self.files[path] = offset
        return fine

    def one(self):
        """One step; a path that an operation failed on is left alone from then on."""
        rng = self.rng
        roll = rng.random()
        if roll < 0.34 or not self.files or self.kind == "synced":
            self.make(self.fresh(), rng.randint(1, 3), self.kind == "synced" or rng.random() < 0.2)
            if self.kind == "synced" and rng.random() < 0.5:
                self.make(self.fresh(), 1, False)  # noise that nobody was promised anything about
            return
        path = rng.choice(sorted(self.files))
        size = self.files.pop(path)
        if roll < 0.62:
            offset = rng.choice([size, rng.randint(0, size), size + rng.randint(0, 5000)])
            more = self.size()
            if self.opened(path, os.O_WRONLY, lambda fd: self.write(fd, path, offset, more)):
                self.files[path] = max(size, offset + more)
        elif roll < 0.78:
            aside = path + f".tmp.{os.getpid()}.{self.count}"
            if self.make(aside, 1, rng.random() < 0.3):
                size = self.files.pop(aside)
                if self.try_it("rename", aside, lambda n: os.rename(self.at(aside), self.at(path)), to=path):
                    self.files[path] = size
        elif roll < 0.84:
            length = rng.randint(0, size + 100)
            if self.try_it("truncate", path, lambda n: os.truncate(self.at(path), length), size=length):
                self.files[path] = length
        elif roll < 0.90:
            self.try_it("unlink", path, lambda n: os.unlink(self.at(path)))
        elif roll < 0.95:
            if self.try_it("chmod", path, lambda n: os.chmod(self.at(path), 0o755)):
                self.files[path] = size
        else:
            self.files[path] = size
            link = self.fresh()
            self.try_it("symlink", link, lambda n: os.symlink("../" + path, self.at(link)), target="../" + path)

    def run(self):
        if not self.try_it("mkdir", f"t{self.number}", lambda n: os.makedirs(self.at(f"t{self.number}"), exist_ok=True)):
            return
        while not self.gone and time.monotonic() < self.until:
            self.one()


# The model.

EMPTY = ("file", b"", False)
DIRECTORY = ("dir",)


class Expected:
    """For each path what may stand there; `doubts` are operations of which nobody knows."""

    def __init__(self):
        self.paths, self.doubts, self.errors, self.acknowledged, self.synced = {}, [], {}, 0, set()

    def read(self, record, seed, prefix):
        """Takes in what every writer of one round recorded. Paths are under `prefix`."""
        folder, stem = os.path.split(record)
        for name in sorted(os.listdir(folder)):
            if not name.startswith(stem + "."):
                continue
            thread, begun = int(name.rsplit(".", 1)[1]), None
            with open(os.path.join(folder, name), "rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):
                        break
                    entry = json.loads(line)
                    if "op" in entry:
                        begun = entry
                        continue
                    op, begun = begun, None
                    if "ok" in entry:
                        self.acknowledged += 1
                        self.apply(op, prefix, seed, thread, entry["ok"])
                        if op["op"] == "write" and entry["ok"] < op["size"]:
                            # Its requests were answered up to there; of the next one nobody knows.
                            self.doubts.append((op, prefix, seed, thread))
                    else:
                        self.errors[entry["errno"]] = self.errors.get(entry["errno"], 0) + 1
                        self.doubts.append((op, prefix, seed, thread))
            if begun:
                self.doubts.append((begun, prefix, seed, thread))

    def apply(self, op, prefix, seed, thread, count):
        paths, path = self.paths, f"{prefix}/{op['path']}"
        kind = op["op"]
        if kind != "fsync":
            self.synced.discard(path)
        if kind == "mkdir":
            paths[path] = DIRECTORY
        elif kind == "create":
            paths[path] = EMPTY
        elif kind == "symlink":
            paths[path] = ("link", op["target"])
        elif kind == "write":
            paths[path] = written(paths[path], op["offset"], data(seed, thread, op["n"], op["size"])[:count])
        elif kind == "truncate":
            paths[path] = cut(paths[path], op["size"])
        elif kind == "chmod":
            paths[path] = ("file", paths[path][1], True)
        elif kind == "unlink":
            paths.pop(path)
        elif kind == "fsync":
            self.synced.add(path)
        elif kind == "rename":
            target = f"{prefix}/{op['to']}"
            self.synced.discard(target)
            paths[target] = paths.pop(path)

    def check(self, look, only_synced=False):
        """Compares with what `look(path)` finds; returns what is wrong. Doubts are settled by what is there."""
        wrong = [] if only_synced else self.settle_doubts(look)
        self.doubts = []
        for path, want in self.paths.items():
            if only_synced and path not in self.synced:
                continue
            found = look(path)
            if not same(found, want):
                wrong.append(f"{path}: {told(found)} instead of {told(want)}")
        self.paths = {path: short(want) for path, want in self.paths.items()}
        if only_synced:
            self.paths = {path: want for path, want in self.paths.items() if path in self.synced}
        return wrong

    def settle_doubts(self, look):
        wrong = []
        for op, prefix, seed, thread in self.doubts:
            path = f"{prefix}/{op['path']}"
            places = [path] + ([f"{prefix}/{op['to']}"] if "to" in op else [])
            found = {place: look(place) for place in places}
            before = {place: self.paths.get(place) for place in places}
            if not may_be(op, before, found, places, seed, thread):
                wrong.append(f"{op['op']} {path}, unanswered: {[told(found[p]) for p in places]}, "
                             f"before {[told(before[p]) for p in places]}")
            for place in places:
                if found[place] is None:
                    self.paths.pop(place, None)
                else:
                    self.paths[place] = found[place]
        return wrong


def written(state, offset, piece):
    old = state[1]
    old = old + bytes(max(0, offset - len(old)))
    return ("file", old[:offset] + piece + old[offset + len(piece):], state[2])


def cut(state, size):
    return ("file", state[1][:size] + bytes(max(0, size - len(state[1]))), state[2])


def may_be(op, before, found, places, seed, thread):
    """Says whether an unanswered operation can have left this: nothing, all of it, or part of a write."""
    if all(same(found[place], before[place]) for place in places):
        return True
    path, kind = places[0], op["op"]
    old, now = before[path], found[path]
    if kind == "mkdir":
        return now == DIRECTORY
    if kind == "create":
        return same(now, EMPTY)
    if kind == "symlink":
        return now == ("link", op["target"])
    if kind == "unlink":
        return now is None
    if kind == "rename":
        return now is None and same(found[places[1]], old)
    if old is None or now is None or now[0] != "file":
        return False
    if kind == "truncate":
        return same(now, cut(old, op["size"]))
    if kind == "chmod":
        return now[1] == old[1]
    if kind == "write":
        new = written(old, op["offset"], data(seed, thread, op["n"], op["size"]))[1]
        was = old[1] + bytes(max(0, len(new) - len(old[1])))
        fits = len(old[1]) <= len(now[1]) <= len(new)
        return fits and all(byte in (was[at], new[at]) for at, byte in enumerate(now[1]))
    return False


def short(state):
    """A file's bytes are kept as their hash once they were found right."""
    if state[0] != "file" or len(state) == 4:
        return state
    return ("file", None, state[2], hashlib.sha256(state[1]).hexdigest())


def same(found, want):
    if found is None or want is None:
        return found is want
    return short(found) == short(want)


def told(state):
    if state is None:
        return "nothing"
    if state[0] != "file":
        return state[0]
    size = "" if state[1] is None else f"{len(state[1])} bytes "
    return f"file {size}{short(state)[3][:12]}{' x' if state[2] else ''}"


def main():
    top, record, seed, threads, seconds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
    kind = sys.argv[6] if len(sys.argv) > 6 else "calm"
    until = time.monotonic() + seconds
    all_of_them = [Writer(top, record, seed, number, until, kind) for number in range(threads)]
    for writer in all_of_them:
        writer.start()
    for writer in all_of_them:
        writer.join()


if __name__ == "__main__":
    main()
