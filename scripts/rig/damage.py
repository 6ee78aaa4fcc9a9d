"""Faults of what is stored: bytes flipped, files cut, removed, rolled back; and commands killed half way.

Each damage says what the next commands must answer. `found`: `verify --deep` exits
4. `lost`: the next mount goes on and says what it cut. In no case may a command
panic, hang, or call whole what differs from what was written.
"""
import os, shutil, signal, sqlite3, subprocess, time

import audit
from cases import case
from world import LIMIT, Skip, Wrong


class Store:
    """A ledger with a sealed session, and a pristine copy of everything to go back to."""

    def __init__(self, context):
        self.context, self.world = context, context.world()
        world = self.world
        world.mount()
        world.start(threads=3, seconds=0.5)
        world.join()
        world.unmount()
        world.mount()
        world.start(threads=1, seconds=0.2)
        world.join()
        world.unmount()
        self.log = os.path.join(world.store, "sessions", world.session(), "log.jsonl")
        self.ledger = os.path.join(world.store, "ledger.db")
        self.early = os.path.join(world.base, "early.db")
        fold(self.ledger)
        shutil.copy2(self.ledger, self.early)
        world.must("claim", "third", "src/two")
        world.must("checkpoint")  # kept under the state directory: what is older is a rollback from here
        fold(self.ledger)
        self.state = world.environment["XDG_STATE_HOME"]
        self.kept = [(place, os.path.join(world.base, f"pristine-{number}")) for number, place in enumerate((world.store, self.state))]
        for place, copy in self.kept:
            shutil.copytree(place, copy, symlinks=True, ignore=sockets)
        self.lines = self.entries()

    def entries(self):
        """The ledger's entries; a command that looks may add one of its own behind them."""
        return [line for line in self.world.govfs("log", "--json").stdout.splitlines() if '"op":"checkpoint"' not in line]

    def restore(self):
        for place, copy in self.kept:
            for name in os.listdir(place):
                path = os.path.join(place, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
            shutil.copytree(copy, place, symlinks=True, dirs_exist_ok=True)

    def versions(self):
        top = os.path.join(self.world.store, "versions")
        found = [os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names]
        return sorted(path for path in found if os.path.getsize(path) > 0)


def fold(ledger):
    """Brings what stands in the write-ahead log into the file: damage to a page that the log holds too would hurt nothing."""
    connection = sqlite3.connect(ledger)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def sockets(folder, names):
    return [name for name in names if name == "sock"]


def flip(path, at=None, bit=1):
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bit]))


def cut(path, size):
    os.chmod(path, 0o600)
    os.truncate(path, size)


def add(path, what):
    with open(path, "ab") as file:
        file.write(what)


def sql(store, *statements):
    """Changes the database behind its back, as somebody with an editor would."""
    with sqlite3.connect(store.ledger) as database:
        triggers = database.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"drop trigger {name}")
        for statement in statements:
            database.execute(statement)
        for _, text in triggers:
            database.execute(text)
    database.close()


def judge(store, name, want):
    """Asks every command that could be fooled. Returns what `verify --deep` said."""
    world = store.world
    for words in (["verify"], ["verify", "--deep"], ["log"], ["claims"], ["replay"], ["export", os.path.join(world.base, "gone")]):
        done = world.govfs(*words)
        shutil.rmtree(os.path.join(world.base, "gone"), ignore_errors=True)
        if done.returncode not in (0, 1, 2, 3, 4, 5, 6) or "panicked" in done.stderr:
            raise Wrong(f"{name}: govfs {' '.join(words)}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    done = world.govfs("verify", "--deep")
    if want == "found" and done.returncode != 4:
        raise Wrong(f"{name}: verify --deep: exit {done.returncode}, not 4: {(done.stdout + done.stderr).strip()[-300:]}")
    if want == "found or same" and done.returncode == 0 and store.entries() != store.lines:
        raise Wrong(f"{name}: verify --deep calls whole what is not what was written")
    if want == "found or same" and done.returncode not in (0, 4):
        raise Wrong(f"{name}: verify --deep: exit {done.returncode}, not 4: {done.stderr.strip()[-300:]}")
    if want == "lost":
        world.mount()
        world.deep()
        world.unmount()
    return done.returncode


def damages(store, random):
    """Name, what must come of it, and how it is done."""
    log, ledger = store.log, store.ledger
    size, pages = os.path.getsize(log), os.path.getsize(ledger)
    version = random.choice(store.versions())
    yield "log: a byte flipped", "found", lambda: flip(log, random.randrange(size), 1 << random.randrange(8))
    yield "log: cut inside a line", "found", lambda: cut(log, random.randrange(1, size - 1))
    yield "log: emptied", "found", lambda: cut(log, 0)
    yield "log: removed", "found", lambda: os.unlink(log)
    yield "log: a line removed", "found", lambda: edit_lines(log, lambda lines: lines[:1] + lines[2:])
    yield "log: two lines swapped", "found", lambda: edit_lines(log, lambda lines: [lines[0], lines[2], lines[1], *lines[3:]])
    yield "log: half a line after the seal", "lost", lambda: add(log, b'{"v":1,"seq":99999,"prev":"00')
    yield "log: rubbish after the seal", "lost", lambda: add(log, bytes(random.randbytes(500)) + b"\n")
    yield "ledger: a byte flipped", "found or same", lambda: flip(ledger, random.randrange(pages), 1 << random.randrange(8))
    yield "ledger: a page of zeros", "found or same", lambda: overwrite(ledger, 4096 * random.randrange(pages // 4096), bytes(4096))
    yield "ledger: its header overwritten", "found", lambda: overwrite(ledger, 0, random.randbytes(64))
    yield "ledger: cut in half", "found", lambda: cut(ledger, pages // 8192 * 4096)
    yield "ledger: emptied", "found", lambda: cut(ledger, 0)
    yield "ledger: the last entry removed", "found", lambda: sql(store, "delete from entry where seq = (select max(seq) from entry)")
    yield "ledger: an entry's byte changed", "found", lambda: sql(
        store, "update entry set line = cast(replace(cast(line as text), 'writer', 'wroter') as blob) where seq = 3")
    yield "ledger: an earlier copy put back", "found", lambda: shutil.copy2(store.early, ledger)
    yield "projection: a claim handed over", "found", lambda: sql(store, "update claim set agent = 'other'")
    yield "projection: claims emptied", "found", lambda: sql(store, "delete from claim")
    yield "version: a byte flipped", "found", lambda: flip(version, random.randrange(os.path.getsize(version)), 4)
    yield "version: cut", "found", lambda: cut(version, os.path.getsize(version) - 1)
    yield "version: removed", "found", lambda: os.unlink(version)
    yield "version: bytes appended", "found", lambda: (os.chmod(version, 0o600), add(version, b"x"))


def overwrite(path, at, what):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(what)


def edit_lines(path, edit):
    with open(path, "rb") as file:
        lines = file.readlines()
    with open(path, "wb") as file:
        file.writelines(edit(lines))


@case("damaged-store", 1, 10)
def damaged_store(context):
    """Ledger, write log, versions and database pages, damaged one at a time."""
    store = Store(context)
    try:
        wrong = []
        for _ in range(context.rounds):
            for name, want, hurt in damages(store, context.random):
                hurt()
                try:
                    code = judge(store, name, want)
                    context.note(f"{name}: {'lost, said so' if want == 'lost' else 'found' if code == 4 else 'nothing that counts'}")
                except Wrong as fault:
                    wrong.append(str(fault))
                    if store.world.server:
                        store.world.server.kill()
                        store.world.server = None
                store.restore()
                context.done += 1
        store.world.deep()
        context.over(store.world)
        if wrong:
            raise Wrong(" | ".join(sorted(set(wrong))))
    finally:
        store.world.drop()


@case("killed-commands", 6, 60)
def killed_commands(context):
    """Commands that append to the ledger, killed half way: what was answered is there, the rest all or not at all."""
    world = context.world()
    try:
        world.mount()
        answered = set()
        for number in range(context.rounds):
            name = f"more/{number}"
            command = subprocess.Popen([world.binary, "-C", world.repo, "claim", "other", name], env=world.environment,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(context.random.uniform(0.0, 0.04))
            command.send_signal(signal.SIGKILL)
            if command.wait(LIMIT) == 0:
                answered.add(name)
            context.done += 1
        have = world.must("claims", "--json")
        missing = [name for name in answered if f'"{name}"' not in have]
        if missing:
            raise Wrong(f"claims that were granted are gone: {missing}")
        context.note(f"{len(answered)} answered before the kill")
        world.start(threads=1, seconds=0.2)
        world.join()
        world.acked()
        world.whole()
        context.over(world)
    finally:
        world.drop()


@case("killed-merge", 4, 40)
def killed_merge(context):
    """A merge killed half way is finished or undone by the next command; the branch holds what the ledger says."""
    world = context.world()
    try:
        if world.govfs("merge", "--help").returncode != 0:
            raise Skip("this build has no merge")
        for number in range(context.rounds):
            world.agent = f"merger{number}"
            claim = f"work/m{number}"
            world.mount(claims=(claim,))
            os.makedirs(os.path.join(world.spot, claim))
            want = {}
            for at in range(context.random.randint(1, 20)):
                path, text = f"{claim}/f{at}", f"{number} {at}\n" * context.random.randint(1, 500)
                with open(os.path.join(world.spot, path), "w") as file:
                    file.write(text)
                want[path] = text
            before = world.sh("git rev-parse main")
            merge = subprocess.Popen([world.binary, "-C", world.repo, "merge", world.agent], env=world.environment,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(context.random.uniform(0.0, 0.25))
            merge.send_signal(signal.SIGKILL)
            code = merge.wait(LIMIT)
            world.must("claims")  # the next command
            merged = world.sh("git rev-parse main") != before
            if code == 0 and not merged:
                raise Wrong("a merge was answered and the branch stands where it was")
            context.note("finished" if merged else "undone")
            if not merged:
                world.must("merge", world.agent)
            for path, text in want.items():
                have = subprocess.run(["git", "-C", world.repo, "show", f"main:{path}"], capture_output=True, text=True)
                if have.stdout != text:
                    raise Wrong(f"{path} on main is not what was written")
            world.deep()
            world.govfs("unmount", world.agent)
            world.server.wait(LIMIT)
            world.server.stdout.close()
            world.server = None
            world.before = audit.operator_state(world.repo)
            if world.before["checkout"]:
                raise Wrong(f"the operator's checkout is not clean: {world.before['checkout'][:200]}")
            context.done += 1
        wrong, _ = audit.export_is_whole(world.govfs)
        wrong += audit.git_is_whole(world.repo, world.before)
        if wrong:
            raise Wrong("; ".join(wrong))
    finally:
        world.drop()
