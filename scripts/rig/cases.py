"""The faults, one function each: hurt, then judge.

A case is handed a `Context` and runs rounds; it raises `Wrong` where a promise did
not hold and `Skip` with the reason where this machine cannot make the fault.
"""
import errno, fcntl, os, random, resource, shutil, signal, struct, subprocess, tempfile, threading, time

import load
from world import LIMIT, Loop, Skip, World, Wrong, alive, run, wait_for

CASES = {}
# Rounds of one repository before it is judged as a whole and a new one is made.
ROUNDS_PER_WORLD = 10


def case(name, quick, full):
    """Registers a case with its number of rounds in each mode."""
    def keep(function):
        CASES[name] = (function, quick, full)
        return function
    return keep


class Context:
    def __init__(self, binary, seed, rounds):
        self.binary, self.seed, self.rounds, self.random = binary, seed, rounds, random.Random(seed)
        self.acknowledged, self.notes, self.done = 0, {}, 0

    def note(self, text):
        self.notes[text] = self.notes.get(text, 0) + 1

    def world(self, **more):
        return World(self.binary, self.seed, **more)

    def over(self, world):
        self.acknowledged += world.expected.acknowledged

    def settle(self, world, number):
        """After a round: a session goes on, and every few rounds everything is judged and a new repository made."""
        self.done += 1
        last = number + 1 == self.rounds
        if not last and (number + 1) % ROUNDS_PER_WORLD:
            world.unmount()
            return world
        world.whole()
        self.over(world)
        world.drop()
        return None if last else self.world()


def rounds(context, hurt):
    """Mount, load, hurt, mount again, judge; as often as asked for."""
    world = context.world()
    try:
        for number in range(context.rounds):
            world.mount()
            world.start(threads=context.random.randint(1, 4))
            hurt(world, number)
            world.recovered()
            world = context.settle(world, number)
    finally:
        if world:
            world.drop()


def first_writes(world, least=2000):
    """Waits until the load is under way."""
    wait_for(lambda: world.acknowledged() > least, "the load to begin")


# Killed.

@case("kill-random", 10, 200)
def kill_random(context):
    def hurt(world, _):
        time.sleep(context.random.uniform(0.0, 0.7))
        world.kill()
    rounds(context, hurt)


# Where a server dies or is refused: its own calls on the log, the working files, versions and the database.
CALLS = ["write", "pwrite64", "fdatasync", "fsync", "renameat", "renameat2", "linkat", "unlinkat", "ftruncate",
         "fallocate", "openat", "openat2", "copy_file_range", "writev", "fcntl", "mkdirat", "fchmod", "statx"]


class Strace:
    """A tracer on a live server, with one injection."""

    def __init__(self, pid, calls, injection):
        if not shutil.which("strace"):
            raise Skip("no strace: apt-get install strace")
        words = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:{injection}", "-p", str(pid)]
        self.tracer = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        said = self.tracer.stderr.readline()
        if "attached" not in said:
            self.tracer.kill()
            self.tracer.wait()
            raise Skip(f"strace cannot attach: {said.strip()}")

    def stop(self):
        if self.tracer.poll() is None:
            self.tracer.send_signal(signal.SIGINT)
        try:
            self.tracer.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.tracer.kill()
            self.tracer.communicate()


@case("kill-syscall", 6, 108)
def kill_syscall(context):
    def hurt(world, number):
        call = CALLS[(number * 5) % len(CALLS)]
        when = context.random.choice([1, 2, 3, 5, 8, 13, 30])
        tracer = Strace(world.server.pid, call, f"signal=KILL:when={when}")
        try:
            world.server.wait(2)
            context.note(f"at {call}")
        except subprocess.TimeoutExpired:
            context.note("not reached, killed at random")
            world.server.send_signal(signal.SIGKILL)
        tracer.stop()
        world.kill()
    rounds(context, hurt)


# Refused by the system.

REFUSALS = [
    ("pwrite64", "ENOSPC"), ("write", "ENOSPC"), ("pwrite64", "EIO"), ("write", "EDQUOT"), ("pwrite64", "EDQUOT"),
    ("write", "EIO"), ("fdatasync", "EIO"), ("fsync", "EIO"), ("openat", "EMFILE"), ("renameat2", "ENOSPC"),
    ("linkat", "ENOSPC"), ("ftruncate", "EIO"), ("fallocate", "ENOSPC"), ("copy_file_range", "EIO"),
    ("openat", "EIO"), ("fsync", "EDQUOT"), ("unlinkat", "EIO"), ("openat2", "ENFILE"),
]


@case("refused-syscall", 5, 36)
def refused_syscall(context):
    """One call of the server's fails now and then: it stays up, the errno is handed on, nothing acknowledged is lost."""
    def hurt(world, number):
        call, error = REFUSALS[number % len(REFUSALS)]
        first_writes(world)
        every = context.random.choice([2, 3, 5])
        tracer = Strace(world.server.pid, call, f"error={error}:when={context.random.randint(1, 5)}+{every}")
        time.sleep(0.6)
        tracer.stop()
        stays_up(world, f"{error} from {call}")
        works_again(world)
        context.note(f"{error} from {call}")
        # A tracer that lets go between entry and exit leaves a call that was not made: ENOSYS is its own.
        known = {getattr(errno, error), errno.EIO, errno.ENOSYS}
        odd = {number for number in world.expected.errors if number not in known and number not in load.GONE}
        if odd:
            raise Wrong(f"{error} from {call} reached a program as {[errno.errorcode.get(n, n) for n in sorted(odd)]}")
        world.expected.errors = {}
        world.unmount()
    rounds(context, hurt)


def stays_up(world, what):
    if not alive(world.server.pid):
        raise Wrong(f"the server did not survive {what}: {world.errors()}")


def end_load(world):
    """Ends the writers between two system calls of theirs, as any program is ended."""
    for writer, *_ in world.writers:
        if writer:
            writer.terminate()
            writer.wait(LIMIT)
            writer.returncode = 0
    world.join()


def works_again(world, kind="calm"):
    """When the fault is over, a program can go on as if nothing had been."""
    end_load(world)
    refused = world.start(threads=2, seconds=0.3, kind=kind)
    if refused:
        raise Wrong(f"after the fault: {refused.strerror}")
    before = dict(world.expected.errors)
    world.join()
    new = {number: count - before.get(number, 0) for number, count in world.expected.errors.items() if count != before.get(number, 0)}
    if new:
        raise Wrong(f"after the fault: {[errno.errorcode.get(number, number) for number in new]}")
    world.acked()


@case("descriptor-limit", 2, 10)
def descriptor_limit(context):
    """As few descriptors as a service manager may leave: refused with EMFILE or ENFILE, and goes on."""
    def hurt(world, number):
        first_writes(world, 300)
        soft, hard = resource.prlimit(world.server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(world.server.pid, resource.RLIMIT_NOFILE, (count_descriptors(world.server.pid) + number % 4, hard))
        held = []
        for name in ("one", "two") * 60:
            try:
                held.append(os.open(os.path.join(world.spot, "src", name), os.O_RDONLY))
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.EIO):
                    raise Wrong(f"no descriptors left is told as {error.strerror}") from None
        time.sleep(0.4)
        for fd in held:
            os.close(fd)
        stays_up(world, "a descriptor limit")
        resource.prlimit(world.server.pid, resource.RLIMIT_NOFILE, (soft, hard))
        works_again(world)
        odd = set(world.expected.errors) - {errno.EMFILE, errno.ENFILE, errno.EIO}
        if odd:
            raise Wrong(f"no descriptors left reached a program as {[errno.errorcode.get(n, n) for n in odd]}")
        context.note("programs refused" if world.expected.errors else "no program noticed")
        world.expected.errors = {}
        world.unmount()
    rounds(context, hurt)


def count_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


GROUPS = "/sys/fs/cgroup/memory"


@case("out-of-memory", 2, 10)
def out_of_memory(context):
    """A control group without memory left, and the kernel chooses the server."""
    if not os.path.exists(f"{GROUPS}/memory.limit_in_bytes") or not os.access(GROUPS, os.W_OK):
        raise Skip("no memory control group of version 1 to write to")
    group = f"{GROUPS}/govfs-faults-{os.getpid()}"
    os.mkdir(group)

    def put(name, value):
        with open(f"{group}/{name}", "w") as file:
            file.write(str(value))

    def hurt(world, _):
        first_writes(world)
        put("cgroup.procs", world.server.pid)
        with open(f"/proc/{world.server.pid}/oom_score_adj", "w") as file:
            file.write("1000")
        put("memory.limit_in_bytes", 24 << 20)
        # A neighbour in the group that wants more than there is; the kernel is told to spare it.
        hog = subprocess.Popen(["python3", "-c", f"import os; open('/proc/self/oom_score_adj','w').write('-1000'); "
                                f"open('{group}/cgroup.procs','w').write(str(os.getpid())); b=bytearray(23<<20)\nwhile 1: b[::4096]=bytes(len(b)//4096)"],
                               stderr=subprocess.DEVNULL)
        try:
            world.server.wait(5)
            context.note("killed by the kernel")
        except subprocess.TimeoutExpired:
            context.note("spared by the kernel, killed at random")
        finally:
            hog.kill()
            hog.wait()
        put("memory.limit_in_bytes", -1)
        world.kill()
    try:
        rounds(context, hurt)
    finally:
        wait_for(lambda: not open(f"{group}/cgroup.procs").read(), "the control group to empty", 10)
        os.rmdir(group)


# Disks.

def on_disk(context, each, size_mib=64, inodes=None):
    """Runs rounds of `each` with the whole repository on an ext4 file system of its own."""
    if os.geteuid() != 0:
        raise Skip("needs root: loop devices")
    for number in range(context.rounds):
        keep = context.world()
        place = os.path.join(keep.base, "loop")
        loop = Loop(os.path.join(keep.base, "image"), size_mib, inodes)
        world = None
        try:
            loop.attach(place)
            world = context.world(at=os.path.join(place, "home"))
            loop = each(world, loop, place, number) or loop
            world.whole()
            context.over(world)
            context.done += 1
        finally:
            if world:
                world.drop()
            loop.drop()
            keep.drop()


@case("disk-full", 1, 4)
def disk_full(context):
    """ENOSPC for real, by bytes and by inodes, then room again."""
    def each(world, loop, place, number):
        by_inodes = number % 2 == 1
        ballast = os.path.join(place, "ballast")
        with open(ballast, "wb") as file:
            file.write(bytes(8 << 20))
        spare = [os.path.join(place, f"spare-{at}") for at in range(400)]
        for name in spare:
            open(name, "w").close()
        world.mount()
        world.start(threads=3, kind="small" if by_inodes else "large", seconds=40)

        def full():
            room = os.statvfs(place)
            return (room.f_favail < 1 if by_inodes else room.f_bavail < 20) or world.writers[0][0].poll() is not None
        wait_for(full, "the disk to fill")
        time.sleep(1.0)
        stays_up(world, "a full disk")
        end_load(world)
        world.acked()
        odd = set(world.expected.errors) - {errno.ENOSPC}
        if odd or not world.expected.errors:
            raise Wrong(f"a full disk reached the programs as {[errno.errorcode.get(n, n) for n in world.expected.errors]}")
        for name in (ballast, *spare):
            os.unlink(name)
        run(["sync", "-f", place])  # only then are the blocks anybody's again
        works_again(world, "small")
        context.note("no inodes" if by_inodes else "no room")
    # Small, so that they fill within seconds.
    on_disk(context, each, size_mib=48, inodes=1600)


def snapshot(world, loop, claims):
    """What the disk held at one instant, as a file; the writers are told nothing. Also what had been answered by then."""
    name = os.path.basename(loop.device)
    stopped = [world.server.pid, *[writer.pid for writer, *_ in world.writers if writer]]
    promised = claims.freeze()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)

    def quiet():
        with open(f"/sys/block/{name}/inflight") as file:
            return not any(map(int, file.read().split()))

    def writes():
        with open(f"/sys/block/{name}/stat") as file:
            return file.read().split()[4]

    copy = loop.image + ".copy"
    try:
        for _ in range(30):
            wait_for(quiet, "the disk to be quiet", 10)
            count = writes()
            run(["cp", "--sparse=always", loop.image, copy])
            if quiet() and writes() == count:
                break
        else:
            raise Wrong("the disk does not come to rest although everybody is stopped")
        sizes = {entry: os.path.getsize(os.path.join(world.base, entry)) for entry in os.listdir(world.base) if entry.startswith("record-")}
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        claims.stop()
    return copy, sizes, promised


@case("power-loss", 2, 25)
def power_loss(context):
    """A snapshot of the device at a random moment becomes the disk: what was synced is there."""
    def each(world, loop, place, number):
        run(["sync", "-f", place])
        world.mount()
        world.start(threads=3, kind="synced", seconds=20)
        claims = Claims(world)
        time.sleep(context.random.uniform(0.2, 2.5))
        copy, sizes, promised = snapshot(world, loop, claims)
        world.kill(cut=sizes)  # what was recorded later never happened
        device = loop.device
        loop.detach()
        os.replace(copy, loop.image)
        loop.attach(place, device)
        world.reboot()
        world.recovered(only_synced=True)
        have = world.must("claims", "--json")
        missing = [claim for claim in promised if f'"{claim}"' not in have]
        if missing:
            raise Wrong(f"claims that were granted are gone: {missing}")
        context.note(f"{len(promised)} claims held")
        return loop
    on_disk(context, each, size_mib=256)


class Claims:
    """Grants more claims while files are written, and knows which were answered."""

    def __init__(self, world):
        self.world, self.answered, self.over, self.command = world, [], False, None
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        number = 0
        while not self.over:
            number += 1
            name = f"more/{number}"
            with self.lock:
                if self.over:
                    return
                self.command = subprocess.Popen([self.world.binary, "-C", self.world.repo, "claim", "other", name],
                                                env=self.world.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self.command.wait(LIMIT) == 0:
                self.answered.append(name)

    def freeze(self):
        """Stops where it is; returns what was answered by then."""
        with self.lock:
            self.over = True
            if self.command and self.command.returncode is None:
                self.command.send_signal(signal.SIGSTOP)
        return list(self.answered)

    def stop(self):
        if self.command and self.command.returncode is None:
            self.command.send_signal(signal.SIGCONT)
        self.thread.join(LIMIT)


SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
NO_FLUSH = 2


@case("disk-gone", 2, 15)
def disk_gone(context):
    """The file system shuts down at once without writing its journal: EIO for everything, then a power loss."""
    def each(world, loop, place, number):
        run(["sync", "-f", place])
        world.mount()
        world.start(threads=3, kind="synced", seconds=20)
        time.sleep(context.random.uniform(0.2, 1.5))
        fd = os.open(place, os.O_RDONLY)
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_FLUSH))
        os.close(fd)
        time.sleep(0.5)
        stays_up(world, "a disk that is gone")
        end_load(world)
        odd = set(world.expected.errors) - {errno.EIO, errno.EROFS}
        if odd:
            raise Wrong(f"a disk that is gone reached the programs as {[errno.errorcode.get(n, n) for n in odd]}")
        world.kill()
        device = loop.device
        loop.detach()
        loop.attach(place, device)
        world.reboot()
        world.recovered(only_synced=True)
    on_disk(context, each, size_mib=256)


@case("read-only-store", 1, 3)
def read_only_store(context):
    """A store that cannot be written: reading verbs work or say so, nothing that writes pretends to have."""
    def each(world, loop, place, number):
        world.mount()
        world.start(threads=2, seconds=0.4)
        world.join()
        world.unmount()
        size = len(world.must("log", "--json").splitlines())
        run(["mount", "-o", "remount,ro", place])
        for words in (["claim", "other", "elsewhere"], ["mount", world.agent, world.spot], ["checkpoint"], ["unmount", world.agent], ["agent", "add", "third"]):
            done = world.govfs(*words)
            if done.returncode == 0:
                raise Wrong(f"govfs {' '.join(words)} says done on a read-only store")
            if "panicked" in done.stderr or "hint:" not in done.stderr and "error:" not in done.stderr:
                raise Wrong(f"govfs {' '.join(words)} on a read-only store: {done.stderr.strip()[-200:]}")
        for words in (["verify"], ["log"], ["claims"]):
            done = world.govfs(*words)
            context.note(f"{words[0]} {'works' if done.returncode == 0 else 'is refused'}")
            if "panicked" in done.stderr or done.returncode == 4:
                raise Wrong(f"govfs {words[0]} on a read-only store: exit {done.returncode}: {done.stderr.strip()[-200:]}")
        run(["mount", "-o", "remount,rw", place])
        if len(world.must("log", "--json").splitlines()) != size:
            raise Wrong("a read-only store grew")
        world.mount()
        run(["blockdev", "--setro", loop.device])
        try:
            world.start(threads=2, seconds=1.0)
            time.sleep(1.2)
            stays_up(world, "a device that turned read-only")
            end_load(world)
        finally:
            run(["blockdev", "--setrw", loop.device])
        world.kill()
        device = loop.device
        loop.detach()
        loop.attach(place, device)
        world.reboot()  # what was never written is lost, as after a power loss
        world.recovered(only_synced=True)
    on_disk(context, each, size_mib=256)


# Clocks.

SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
/* Seconds that the wall clock and the boot clock are off, in a file that the rig changes. */
static volatile int64_t *off;
__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("RIG_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *at = fd < 0 ? MAP_FAILED : mmap(0, 16, PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) off = at;
    if (fd >= 0) close(fd);
}
int clock_gettime(clockid_t id, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, id, now);
    if (!result && off && id == CLOCK_REALTIME) now->tv_sec += off[0];
    if (!result && off && id == CLOCK_BOOTTIME) now->tv_sec += off[1];
    return result;
}
"""
HOUR, YEAR = 3600, 365 * 86400
JUMPS = [HOUR, -2 * 24 * HOUR, -54 * YEAR, 70 * YEAR, 0, -1, 10 * YEAR, -30 * YEAR]


@case("clock-jumps", 1, 4)
def clock_jumps(context):
    """The wall clock jumps both ways under load: no write is refused for it, times in a chain only grow; a lease ends by the boot clock."""
    if not shutil.which("cc"):
        raise Skip("no C compiler for the clock shim: apt-get install gcc")
    for _ in range(context.rounds):
        place = tempfile.mkdtemp(prefix="govfs-faults-clock.")
        world = None
        try:
            source, shim, clock = (os.path.join(place, name) for name in ("shim.c", "shim.so", "clock"))
            with open(source, "w") as file:
                file.write(SHIM)
            run(["cc", "-shared", "-fPIC", "-O2", "-o", shim, source])
            set_clock(clock, 0, 0)
            world = context.world(environment={"LD_PRELOAD": shim, "RIG_CLOCK": clock})
            world.mount()
            for jump in JUMPS:
                set_clock(clock, jump, 0)
                works_again(world)
                world.must("claim", "other", "src/one", "--ttl", "2h")
                context.note(f"wall clock {jump:+} s")
            set_clock(clock, JUMPS[-1], 9 * HOUR)  # longer than a claim lives
            wait_for(lambda: '"other"' not in world.must("claims", "--json"), "a lease of 2 h to end after 9 h", 20)
            refused = try_write(world)
            context.note("own claim ended with the boot clock" if refused else "own claim was renewed")
            world.must("claim", world.agent, "work")
            works_again(world)
            world.whole()
            context.over(world)
            context.done += 1
        finally:
            if world:
                world.drop()
            shutil.rmtree(place, ignore_errors=True)


def set_clock(path, wall, boot):
    with open(path, "r+b" if os.path.exists(path) else "wb") as file:
        file.write(struct.pack("qq", wall, boot))


def try_write(world):
    try:
        with open(os.path.join(world.spot, "work", "after-lease"), "w") as file:
            file.write("written\n")
    except PermissionError:
        return True
    return False
