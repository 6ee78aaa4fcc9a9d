"""One sample repository with its ledger, and the servers that are to be hurt.

Owns: the places (repository, XDG directories, mount, records), starting and ending
a server, and leaving nothing behind: mounts, loop devices, control groups and
directories are taken away on every way out.
"""
import atexit, os, re, shutil, signal, subprocess, sys, tempfile, time

import audit, load

# Sealed often, so that a fault falls into a seal now and then.
CHARTER = ("seal-entries = 1000", "seal-entries = 40")
LIMIT = 60  # seconds; what takes longer hangs


class Wrong(Exception):
    """A promise did not hold."""


class Skip(Exception):
    """This machine cannot make the fault; says what is missing."""


class Loop:
    """An ext4 file system in a file."""

    def __init__(self, image, size_mib, inodes=None):
        self.image, self.device, self.place = image, None, None
        atexit.register(self.drop)
        with open(image, "wb") as file:
            file.truncate(size_mib << 20)
        words = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
        run([*words, *(["-N", str(inodes)] if inodes else []), image])

    def attach(self, place, device=None):
        os.makedirs(place, exist_ok=True)
        words = ["losetup", device, self.image] if device else ["losetup", "-f", "--show", self.image]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            raise Skip(f"no loop device: {done.stderr.strip()}")
        self.device, self.place = device or done.stdout.strip(), place
        run(["mount", "-t", "ext4", self.device, place])

    def detach(self):
        if self.place:
            wait_for(lambda: subprocess.run(["umount", self.place], capture_output=True).returncode == 0, "umount of the loop device")
            self.place = None
        if self.device:
            run(["losetup", "-d", self.device])
            name = os.path.basename(self.device)
            wait_for(lambda: not os.path.exists(f"/sys/block/{name}/loop"), "the loop device to go")
            self.device = None

    def drop(self):
        atexit.unregister(self.drop)
        if self.place:
            subprocess.run(["umount", "-l", self.place], capture_output=True)
        if self.device:
            subprocess.run(["losetup", "-d", self.device], capture_output=True)
        self.place = self.device = None


def run(words, **more):
    done = subprocess.run(words, capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise Wrong(f"{' '.join(map(str, words))}: exit {done.returncode}: {(done.stdout + done.stderr).strip()[-400:]}")
    return done.stdout


def wait_for(true, what, seconds=LIMIT):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise Wrong(f"waited {seconds} s in vain for {what}")
        time.sleep(0.01)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class World:
    """Everything of one sample repository; `at` is where it lies (a loop device's file system, say)."""

    def __init__(self, binary, seed, at=None, environment=None):
        self.binary, self.seed = binary, seed
        self.base = tempfile.mkdtemp(prefix="govfs-faults.")
        os.chmod(self.base, 0o755)
        self.on = at or os.path.join(self.base, "disk")
        os.makedirs(self.on, exist_ok=True)
        self.repo, self.store = os.path.join(self.on, "repo"), os.path.join(self.on, "repo", ".git", "govfs")
        self.spot = os.path.join(self.base, "mount")
        self.server, self.writers, self.round, self.agent = None, [], 0, "writer"
        self.expected = load.Expected()
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": self.on, "LANG": "C.UTF-8", "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_CEILING_DIRECTORIES": self.on,
            "XDG_CONFIG_HOME": os.path.join(self.on, "config"), "XDG_STATE_HOME": os.path.join(self.on, "state"),
            **(environment or {}),
        }
        atexit.register(self.drop)
        self.make()

    def make(self):
        os.makedirs(self.repo)
        os.makedirs(self.spot)
        self.sh("git init -q -b main && git config user.name sample && git config user.email sample@localhost && "
                "mkdir src work && echo one >src/one && echo two >src/two && ln -s one src/link && "
                "echo keep >work/keep && echo /scratch/ >.gitignore && git add . && git commit -qm sample")
        self.must("init", "--no-commit")
        charter = os.path.join(self.repo, "governor.md")
        with open(charter) as file:
            text = file.read()
        with open(charter, "w") as file:
            file.write(text.replace(*CHARTER))
        self.sh("git add . && git commit -qm charter")
        self.before = audit.operator_state(self.repo)

    def sh(self, script):
        return run(["sh", "-c", script], cwd=self.repo, env=self.environment)

    def govfs(self, *words, timeout=LIMIT):
        return subprocess.run([self.binary, "-C", self.repo, *words], capture_output=True, text=True,
                              env=self.environment, timeout=timeout, stdin=subprocess.DEVNULL)

    def must(self, *words):
        done = self.govfs(*words)
        if done.returncode != 0:
            raise Wrong(f"govfs {' '.join(words)}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
        return done.stdout

    # The server.

    def mount(self, prepare=None, claims=("work",)):
        """Starts a server that is this process's child; returns when it serves."""
        log = open(os.path.join(self.base, "server.err"), "ab")
        words = [self.binary, "-C", self.repo, "mount", self.agent, self.spot, "--foreground"]
        for claim in claims:
            words += ["--claim", claim]
        self.server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL,
                                       env=self.environment, preexec_fn=prepare)
        log.close()
        said = self.server.stdout.readline()
        if not said.strip():
            code = self.server.wait(LIMIT)
            raise Wrong(f"mount: exit {code}: {self.errors()}")

    def errors(self):
        with open(os.path.join(self.base, "server.err"), errors="replace") as file:
            return file.read()[-400:].strip()

    def unmount(self):
        self.must("unmount", self.agent)
        if self.server.wait(LIMIT) != 0:
            raise Wrong(f"the server ended with {self.server.returncode}: {self.errors()}")
        self.server.stdout.close()
        self.server = None

    def kill(self, cut=None):
        """Ends the server at once, and sees that the mount then answers ENOTCONN and nothing else."""
        if self.server.poll() is None:
            self.server.send_signal(signal.SIGKILL)
        self.server.wait(LIMIT)
        self.server.stdout.close()
        self.server = None
        self.join(cut)
        try:
            os.listdir(self.spot)
            raise Wrong("the mount of a dead server answers")
        except OSError as error:
            if error.errno not in load.GONE:
                raise Wrong(f"the mount of a dead server says {error.strerror}") from None

    # The load.

    def start(self, threads=3, seconds=30.0, kind="calm"):
        self.round += 1
        name = f"r{self.round}"
        place = os.path.join(self.spot, "work", name)
        try:
            os.makedirs(place)
        except OSError as error:
            self.writers.append((None, name, f"{self.seed}/{self.round}"))
            return error
        seed = f"{self.seed}/{self.round}"
        record = os.path.join(self.base, f"record-{name}")
        writer = subprocess.Popen([sys.executable, load.__file__, place, record, seed, str(threads), str(seconds), kind],
                                  stderr=subprocess.PIPE, text=True, cwd="/")
        self.writers.append((writer, name, seed))
        return None

    def acknowledged(self):
        """Lines that the writers have put down so far."""
        total = 0
        for name in os.listdir(self.base):
            if name.startswith("record-"):
                total += os.path.getsize(os.path.join(self.base, name))
        return total

    def join(self, cut=None):
        """Waits for the load and reads what it recorded; with `cut`, only that many bytes of each record."""
        for writer, name, seed in self.writers:
            if writer is None:
                continue
            try:
                _, said = writer.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                writer.kill()
                raise Wrong("a program in the mount hangs") from None
            if writer.returncode != 0:
                raise Wrong(f"the load ended with {writer.returncode}: {said[-300:]}")
            for entry in os.listdir(self.base) if cut is not None else ():
                if entry.startswith("record-"):
                    os.truncate(os.path.join(self.base, entry), cut.get(entry, 0))
            self.expected.read(os.path.join(self.base, f"record-{name}"), seed, f"work/{name}")
        self.writers = []
        for name in os.listdir(self.base):
            if name.startswith("record-"):
                os.unlink(os.path.join(self.base, name))

    # The judgement.

    def look(self, path):
        full = os.path.join(self.spot, path)
        try:
            stat = os.lstat(full)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            return None
        if os.path.islink(full):
            return ("link", os.readlink(full))
        if os.path.isdir(full):
            return load.DIRECTORY
        with open(full, "rb") as file:
            return ("file", file.read(), stat.st_mode & 0o100 != 0)

    def acked(self, only_synced=False):
        """Every acknowledged write is there."""
        wrong = self.expected.check(self.look, only_synced)
        if wrong:
            raise Wrong(f"{len(wrong)} paths are not as acknowledged: " + "; ".join(wrong[:4]))

    def recovered(self, only_synced=False):
        """Mounts again and checks the quick part."""
        self.mount()
        self.acked(only_synced)
        self.deep()

    def deep(self):
        wrong = audit.product_agrees(self.govfs)
        if wrong:
            raise Wrong("; ".join(wrong))

    def session(self):
        return sorted(os.listdir(os.path.join(self.store, "sessions")), key=lambda name: int(name.rsplit("-", 1)[1]))[-1]

    def whole(self, claims=("work",)):
        """Everything: the served tree against an own fold, exports, versions, plain git. Ends the mount."""
        shown = audit.walk(self.spot)
        self.unmount()
        wrong = audit.product_agrees(self.govfs)
        found, _ = audit.export_is_whole(self.govfs)
        wrong += found
        base = self.sh("git rev-parse main").strip()
        folded = audit.fold(audit.base_tree(self.repo, base), os.path.join(self.store, "sessions", self.session(), "log.jsonl"))
        wrong += audit.compare(shown, folded.tree)
        wrong += audit.versions(self.store, folded.named)
        outside = [path for path in folded.touched if not any(path == claim or path.startswith(claim + "/") for claim in claims)]
        wrong += [f"{path} was changed outside of every claim" for path in outside]
        wrong += audit.git_is_whole(self.repo, self.before)
        if wrong:
            raise Wrong(f"{len(wrong)} faults: " + "; ".join(wrong[:5]))
        return len(folded.tree)

    def reboot(self):
        """What recovery sees after a power loss: locks and marks of another boot."""
        mark = os.path.join(self.store, "versions", "boot")
        if os.path.exists(mark):
            os.unlink(mark)
        sessions = os.path.join(self.store, "sessions")
        for name in os.listdir(sessions):
            lock = os.path.join(sessions, name, "lock")
            if os.path.exists(lock):
                with open(lock) as file:
                    text = file.read()
                with open(lock, "w") as file:
                    file.write(re.sub(r"^\S+", "00000000-0000-4000-8000-000000000000", text))

    def drop(self):
        """Leaves nothing behind."""
        atexit.unregister(self.drop)
        for writer, *_ in self.writers:
            if writer and writer.poll() is None:
                writer.kill()
        if self.server and self.server.poll() is None:
            self.server.kill()
            self.server.wait()
        for _ in range(5):  # a round that failed may have left more than one
            if subprocess.run(["umount", "-l", self.spot], capture_output=True).returncode != 0:
                break
        for writer, *_ in self.writers:
            if writer:
                writer.wait()
                writer.stderr.close()
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.base, ignore_errors=True)
