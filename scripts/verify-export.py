#!/usr/bin/env python3
"""verify-export.py DIR [KEY]: verify a govfs export as its README says; KEY is a key.pub that you trust."""
import base64, datetime, functools, hashlib, itertools, json, os, re, subprocess, sys, tempfile
HEAD = ("v", "seq", "prev", "ts", "op", "agent", "session")
def sha(*parts): return hashlib.sha256(b"".join(parts)).digest()
def need(fine, *what): return fine or sys.exit(" ".join(map(str, ("fault:", *what))))
def root(tree): return functools.reduce(lambda top, left: sha(b"\1", left[1], top), tree[-2::-1], tree[-1][1]) if tree else sha()
def follow(path, leaf, seals, before="", tree=()):  # seals: what is said of the first n lines
    for seq, line in enumerate(itertools.chain(open(path, "rb") if os.path.exists(path) else (), [b""])):
        known = {"head " + leaf.hex(), "root " + root(tree).hex()}
        need(seals.get(seq, known) <= known and (line or seq == max(seals)), path, "entry", seq - 1, "is not what was sealed")
        if not line: return
        entry = json.loads(line, parse_float=sys.exit, parse_constant=sys.exit)
        spell = lambda keys: json.dumps({k: entry[k] for k in keys if k in entry}, separators=(",", ":"), sort_keys=keys != HEAD)[1:-1]
        need(line == b"{%s}\n" % ",".join(filter(None, (spell(HEAD), spell(entry.keys() - HEAD)))).encode(), path, "entry", seq, "is not in its one spelling")
        need(line.startswith(b'{"v":1,"seq":%d,"prev":"%s","ts":"' % (seq, leaf.hex().encode())), path, "entry", seq, "does not chain")
        need(re.fullmatch(r"[-\d]{10}T[:\d]{8}\.\d{9}Z", entry["ts"], re.A) and before < entry["ts"], path, "entry", seq, "has a bad time")
        before, leaf = datetime.datetime.fromisoformat(entry["ts"][:19]) and entry["ts"], sha(b"\0govfs/entry/v1\n", line[:-1])
        tree = [*tree, (1, leaf)]
        while tree[-2:-1] and tree[-2][0] == tree[-1][0]: tree[-2:] = [(2 * tree[-1][0], sha(b"\1", tree[-2][1], tree[-1][1]))]
        yield entry, entry.get("session"), leaf
def verify(folder, trusted=None):
    at, sessions = functools.partial(os.path.join, folder), {}
    key, note, readme = (open(at(name), "rb").read() for name in ("key.pub", "checkpoint", "README"))
    text, origin, size, top, mark = re.fullmatch("((\\S+)\n(\\S+)\n(\\S+)\n)\n\u2014 \\2 (\\S+)\n(?:\u2014 \\S+ \\S+\n)*", note.decode()).groups()
    blob, files = base64.b64decode(mark), lambda kind: {f"{kind}/{name}" for name in os.listdir(at(kind))} if os.path.isdir(at(kind)) else set()
    need(key[:-32].hex() == "302a300506032b6570032100" and trusted in (None, key), "key.pub is not the key that was given")
    need(mark.encode() == base64.b64encode(blob) and blob[:4] == sha(origin.encode(), b"\n\1", key[-32:])[:4], "checkpoint: another key's")
    for entry, name, leaf in follow(at("ledger.jsonl"), bytes(32), {int(size): {"root " + base64.b64decode(top).hex()}}):
        if entry["op"] == "session": need(sessions.setdefault(name, (leaf, {0: set()}))[0] == leaf, name, "begins twice")
        if entry["op"] == "seal": sessions[name][1].setdefault(entry["count"], set()).update(f"{k} {entry[k]}" for k in ("head", "root"))
    for name, (leaf, seals) in sessions.items():
        for _, session, _ in follow(at("sessions", name + ".jsonl"), leaf, seals): need(session == name, name, "has a line of", session)
    with tempfile.TemporaryDirectory() as temp:
        for name, data in (("key", key), ("text", text.encode()), ("sig", blob[4:])): open(os.path.join(temp, name), "wb").write(data)
        subprocess.run("openssl pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in text -sigfile sig".split(), cwd=temp, check=True, capture_output=True)
    need(files("sessions") <= {f"sessions/{name}.jsonl" for name in sessions}, "a log that no session entry names")
    need(all(name == f"charters/{sha(open(at(name), 'rb').read()).hex()}.md" for name in files("charters")), "a charter that is not what its name says")
    need(readme.endswith(b"sha256 of the above: %s\n" % sha(readme[:-86]).hex().encode()), "README is not whole")
if __name__ == "__main__": verify(sys.argv[1], *(open(key, "rb").read() for key in sys.argv[2:3])), print("verified")
