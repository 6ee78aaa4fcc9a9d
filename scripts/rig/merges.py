"""Merges cut short at every system call between the intent and the end.

One merge is traced to learn its calls; then the same merge is made again and again
from the same state, each time killed at another call. The next command must finish
or undo it, and the ledger, the branch, its objects and the checkout must agree.
"""
import json, os, re, shutil, subprocess

import audit
from cases import case
from world import LIMIT, Skip, Wrong, run

# Lines of a trace: the process, then the call.
CALL = re.compile(r"^(\d+)\s+([a-z_0-9]+)\(")
# What does not return to the program, or is no call of its own.
SKIPPED = {"exit", "exit_group", "execve", "restart_syscall", "rt_sigreturn"}


class Merge:
    """A sealed session that is ready to be merged, kept as it is to go back to."""

    def __init__(self, context, world, agent="merger"):
        self.world, self.agent = world, agent
        if not shutil.which("strace"):
            raise Skip("no strace: apt-get install strace")
        world.sh("for n in $(seq 30); do echo line $n; done >src/long && echo gone >src/gone && git add . && git commit -qm more")
        world.agent = agent
        world.mount(claims=("src",))
        world.sh(f"cd {world.spot}/src && sed -i 's/^line 3$/line three/' long && rm gone && git mv two three && "
                 "chmod +x one && mkdir -p deep/er && seq 1000 >deep/er/new && ln -s ../one deep/link")
        world.unmount()
        world.sh("sed -i 's/^line 28$/line twenty-eight/' src/long && git commit -qam 'on the branch'")
        self.words = ["merge", agent]
        self.keep()

    def keep(self):
        """Remembers everything as it is."""
        world = self.world
        self.before = world.sh("git rev-parse main").strip()
        self.kept = os.path.join(world.base, "ready")
        self.places = [world.repo, world.environment["XDG_STATE_HOME"], world.environment["XDG_CONFIG_HOME"]]
        for number, place in enumerate(self.places):
            os.makedirs(place, exist_ok=True)
            shutil.rmtree(f"{self.kept}-{number}", ignore_errors=True)
            run(["cp", "-a", place, f"{self.kept}-{number}"])

    def restore(self):
        """Puts the bytes back into the very same directories: a ledger knows where it lives."""
        for number, place in enumerate(self.places):
            refill(f"{self.kept}-{number}", place)

    def command(self, *before):
        return [*before, self.world.binary, "-C", self.world.repo, *self.words]

    def start(self, *before):
        return subprocess.run(self.command(*before), env=self.world.environment, capture_output=True, text=True, timeout=LIMIT)

    def tree(self):
        return self.world.sh("git rev-parse 'main^{tree}'").strip()

    def calls(self):
        """Returns the calls before and after the intent, each as its name and how often it had been made by then."""
        self.restore()  # so that it meets what every later one meets
        out = os.path.join(self.world.base, "trace")
        done = self.start("strace", "-f", "-s", "5000", "-o", out)
        if done.returncode != 0:
            raise Wrong(f"a merge beside a tracer: exit {done.returncode}: {done.stderr[-300:]}")
        seen, early, late, intended = {}, [], [], False
        with open(out, errors="replace") as file:
            for line in file:
                call = CALL.match(line)
                if not call:
                    continue
                key = call.groups()
                seen[key] = seen.get(key, 0) + 1
                intended = intended or "merge-intent" in line
                if key[1] not in SKIPPED:
                    (late if intended else early).append((key[1], seen[key]))
        if not intended:
            raise Wrong("the trace shows no intent")
        return list(dict.fromkeys(early)), list(dict.fromkeys(late))

    def entries(self):
        said = self.world.must("log", "--json", "--op", "merge")
        return [json.loads(line) for line in said.splitlines()]


class Revert(Merge):
    """The same merge, made and about to be undone."""

    def __init__(self, context, world):
        super().__init__(context, world)
        world.must("merge", self.agent)
        self.number = super().entries()[-1]["seq"]
        self.words = ["revert", str(self.number)]
        self.keep()

    def entries(self):
        """What the ledger says of the revert, as of a merge: one that came to nothing is recorded so."""
        reverts = [dict(json.loads(line), decision="allow") for line in self.world.must("log", "--json", "--op", "revert").splitlines()]
        return [entry for entry in super().entries() if entry["seq"] > self.number] + reverts


def refill(kept, place):
    """Makes `place` the same as `kept`; directories that are in both stay the same directories."""
    for name in os.listdir(place):
        path = os.path.join(place, name)
        if os.path.isdir(path) and not os.path.islink(path):
            if name == ".git":
                refill(os.path.join(kept, name), path)
            else:
                shutil.rmtree(path)
        else:
            os.unlink(path)
    for name in os.listdir(kept):
        if name != ".git":
            run(["cp", "-a", os.path.join(kept, name), place])


def judge(merge, want):
    """After the kill: the next command settles it, whatever it is."""
    world = merge.world
    world.must("claims")
    moved = world.sh("git rev-parse main").strip() != merge.before
    entries = merge.entries()
    allowed = [entry for entry in entries if entry["decision"] == "allow"]
    if moved != bool(allowed) or len(entries) > 1:
        raise Wrong(f"the branch {'moved' if moved else 'stands'} and the ledger says {[entry['decision'] for entry in entries]}")
    if not moved:
        undone = [entry for entry in entries if entry["refusals"][0]["rule"] == "undone"]
        if entries != undone:
            raise Wrong(f"the ledger does not say that it was undone: {entries}")
        world.must(*merge.words)
    if merge.tree() != want:
        raise Wrong("main has another tree than an undisturbed merge makes")
    world.sh("git fsck --strict --no-dangling")
    dirty = world.sh("git status --porcelain")
    if dirty:
        raise Wrong(f"the checkout is not clean: {dirty[:200]}")
    left = [lock for lock in ("index.lock", "index.govfs") if os.path.exists(os.path.join(world.repo, ".git", lock))]
    if left:
        raise Wrong(f"left behind: {left}")
    world.deep()
    return "finished" if moved else "undone" if entries else "never announced"


def kill_at_calls(context, intended, kind=Merge):
    """Kills the merge at each of the calls; with a number of rounds, at that many of them."""
    world = context.world()
    try:
        merge = kind(context, world)
        calls = merge.calls()[intended]
        want = merge.tree()
        chosen = context.random.sample(calls, min(context.rounds, len(calls))) if context.rounds else calls
        wrong = []
        for name, count in chosen:
            merge.restore()
            killed = merge.start("strace", "-f", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={count}")
            try:
                context.note(judge(merge, want) if killed.returncode else "not reached")
            except Wrong as fault:
                wrong.append(f"{name} {count}: {fault}")
            context.done += 1
        context.note(f"of {len(calls)} calls")
        if wrong:
            raise Wrong(f"{len(wrong)} of {len(chosen)}: " + " | ".join(wrong[:6]))
    finally:
        world.drop()


@case("killed-merge-call", 8, 0)
def killed_merge_call(context):
    """From the intent to the end: at every call."""
    kill_at_calls(context, True)


@case("killed-merge-early", 4, 120)
def killed_merge_early(context):
    """Before the intent, while objects are written: nothing is left that a later merge could take for whole."""
    kill_at_calls(context, False)


@case("killed-revert-call", 4, 0)
def killed_revert_call(context):
    """A revert, from its intent to the end: at every call."""
    kill_at_calls(context, True, Revert)
