"""What holds after every fault, by code that shares nothing with the product.

Owns: an own fold of a session's write log over the base tree that plain git lists
(P6, and P1 by the paths it names), the versions it names hashed again (P2), plain
git on the repository, and scripts/verify-export.py on an export (P3). The
product's own `verify --deep` and `replay` (P7) are asked besides.
"""
import hashlib, json, os, re, subprocess, tempfile
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
VERIFIER = os.path.join(os.path.dirname(HERE), "verify-export.py")


def unescape(text):
    return os.fsdecode(urllib.parse.unquote_to_bytes(text))


def base_tree(repo, commit):
    """What plain git says the base holds: path -> (kind, executable, hash or target)."""
    tree = {}
    listing = subprocess.run(["git", "-C", repo, "ls-tree", "-r", "-z", commit], check=True, capture_output=True).stdout
    for row in filter(None, listing.split(b"\0")):
        meta, path = row.split(b"\t", 1)
        mode, _, oid = meta.split()
        blob = subprocess.run(["git", "-C", repo, "cat-file", "blob", oid], check=True, capture_output=True).stdout
        if mode == b"120000":
            tree[os.fsdecode(path)] = ("link", os.fsdecode(blob))
        elif mode != b"160000":
            tree[os.fsdecode(path)] = ("file", mode == b"100755", hashlib.sha256(blob).hexdigest())
    return tree


class Fold:
    """The layer, as a fold of the write log's lines. Written from the format's description alone."""

    def __init__(self, tree):
        self.tree, self.touched, self.named = dict(tree), set(), set()

    def beneath(self, path):
        return [other for other in self.tree if other.startswith(path + "/")]

    def move(self, source, target):
        moved = {target + other[len(source):]: self.tree.pop(other) for other in [*self.beneath(source), source] if other in self.tree}
        return moved

    def take(self, entry):
        op, tree = entry["op"], self.tree
        if op in ("denied", "void"):
            return
        path = unescape(entry["path"])
        self.touched.add(path)
        exec_now = path in tree and tree[path][0] == "file" and tree[path][1]
        if op == "create":
            tree[path] = ("file", entry["mode"] == "exec", hashlib.sha256(b"").hexdigest())
        elif op == "mkdir":
            tree[path] = ("dir",)
        elif op == "symlink":
            tree[path] = ("link", unescape(entry["target"]))
        elif op in ("unlink", "rmdir"):
            tree.pop(path, None)
        elif op == "rename":
            target = unescape(entry["to"])
            self.touched.add(target)
            if entry.get("exchange"):
                there, back = self.move(path, target), self.move(target, path)
                tree.update(there)
                tree.update(back)
            else:
                for other in [*self.beneath(target), target]:
                    tree.pop(other, None) if not path.startswith(target + "/") else None
                tree.update(self.move(path, target))
        elif op in ("write", "truncate", "hole"):
            tree[path] = ("file", exec_now, None)  # not known before it settles
        elif op in ("version", "recovered"):
            mode = entry.get("mode")
            tree[path] = ("file", exec_now if mode is None else mode == "exec", entry["sha256"])
            self.named.add(entry["sha256"])
        elif op == "mode":
            tree[path] = ("file", entry["mode"] == "exec", tree[path][2])


def fold(tree, log):
    """Folds a log; what a `void` names is left out."""
    with open(log, "rb") as lines:
        entries = [json.loads(line) for line in lines]
    void = {entry["entry"] for entry in entries if entry["op"] == "void"}
    result = Fold(tree)
    for entry in entries:
        if entry["seq"] not in void:
            result.take(entry)
    return result


def walk(top):
    """What a mount shows, without git's and govfs's own directories."""
    tree = {}
    for folder, folders, files in os.walk(top):
        if folder == top:
            folders[:] = [name for name in folders if name not in (".git", ".govfs")]
        for name in folders + files:
            full = os.path.join(folder, name)
            path = os.path.relpath(full, top)
            if os.path.islink(full):
                tree[path] = ("link", os.readlink(full))
            elif os.path.isdir(full):
                tree[path] = ("dir",)
            else:
                with open(full, "rb") as file:
                    sha256 = hashlib.sha256(file.read()).hexdigest()
                tree[path] = ("file", os.stat(full).st_mode & 0o100 != 0, sha256)
    return tree


def without_directories(tree):
    return {path: what for path, what in tree.items() if what[0] != "dir"}


def compare(shown, folded):
    """Directories that hold something need no entry, so only files and links are compared."""
    shown, folded = without_directories(shown), without_directories(folded)
    wrong = []
    for path in sorted(shown.keys() | folded.keys()):
        have, want = shown.get(path), folded.get(path)
        if have != want:
            wrong.append(f"{path}: the mount shows {have}, the fold of the log {want}")
    return wrong


def versions(store, named):
    wrong = []
    for sha256 in named:
        place = os.path.join(store, "versions", sha256[:2], sha256[2:])
        try:
            with open(place, "rb") as file:
                found = hashlib.sha256(file.read()).hexdigest()
        except OSError as error:
            wrong.append(f"version {sha256}: {error.strerror}")
            continue
        if found != sha256:
            wrong.append(f"version {sha256}: its bytes hash to {found}")
    return wrong


def git_is_whole(repo, before):
    """Plain git finds nothing wrong, and nobody moved anything of the operator's."""
    wrong = []
    done = subprocess.run(["git", "-C", repo, "fsck", "--full", "--strict", "--no-dangling"], capture_output=True, text=True)
    if done.returncode != 0 or re.search("error|missing|broken", done.stdout + done.stderr):
        wrong.append(f"git fsck: {done.stdout}{done.stderr}".strip())
    now = operator_state(repo)
    wrong += [f"the operator's {name} changed: {before[name]!r} is now {now[name]!r}" for name in before if before[name] != now[name]]
    return wrong


def operator_state(repo):
    """What an agent's work must never touch: branches, configuration, hooks, index, checkout."""
    def git(*words):
        return subprocess.run(["git", "-C", repo, *words], capture_output=True, text=True).stdout
    hooks = os.path.join(repo, ".git", "hooks")
    with open(os.path.join(repo, ".git", "config"), "rb") as file:
        config = file.read()
    return {
        "branches": git("for-each-ref", "refs/heads", "refs/tags", "refs/stash"),
        "configuration": config,
        "hooks": sorted(os.listdir(hooks)) if os.path.isdir(hooks) else [],
        "checkout": git("status", "--porcelain=v2"),
    }


def export_is_whole(govfs, key=None):
    """An export, verified in another language; returns what is wrong, and the export's ledger."""
    with tempfile.TemporaryDirectory(prefix="govfs-faults-export.") as temp:
        place = os.path.join(temp, "export")
        made = govfs("export", place)
        if made.returncode != 0:
            return [f"export: {made.stderr.strip()}"], []
        done = subprocess.run(["python3", VERIFIER, place], capture_output=True, text=True)
        wrong = [] if done.returncode == 0 else [f"verify-export.py: {(done.stdout + done.stderr).strip()[-300:]}"]
        with open(os.path.join(place, "ledger.jsonl")) as lines:
            return wrong, [json.loads(line) for line in lines]


def product_agrees(govfs, more=()):
    """The product's own judgement."""
    wrong = []
    for words in (("verify", "--deep", *more), ("replay",)):
        done = govfs(*words)
        if done.returncode != 0:
            wrong.append(f"{' '.join(words)}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return wrong
