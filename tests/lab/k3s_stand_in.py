#!/usr/bin/python3
"""A STAND-IN for the k3s binary: it runs no container and serves no Kubernetes API.

It is what the tests put on the lab's machines where no real k3s can be had, and it stands only at that boundary: the
driver's files, units, SSH, restarts, upgrades, restores and removals are real. With K3S_BINARY=/path the same tests run
with a real one. Where upstream is of two minds, it does what hurts.

What each part stands for, and where that was read (k3s-io/k3s, in 2026 unless a version is given):

| part | upstream |
| --- | --- |
| an unknown key of config.yaml is a warning, on a command line fatal; drop-ins of `<config>.d` | pkg/configfilearg/parser.go `stripInvalidFlags`, `dotDFiles` |
| READY: a server's when API server and etcd are, the latter not before it votes; an agent's when it has reached an API server and its Node is there; neither waits for a kubelet that works | pkg/cli/server/server.go `run`, pkg/etcd/etcd.go `Test`, pkg/agent/run.go `run` |
| a kubelet that ends takes the process with it, after READY | pkg/daemons/executor/embed.go |
| a Node is Ready for 40 s after its kubelet's last heartbeat | kube-controller-manager's node-monitor-grace-period |
| without data: `server` joins, `cluster-init` founds, neither founds with SQLite; always with the CA that is on disk | pkg/cluster/bootstrap.go `shouldBootstrapLoad` |
| with data: `server` and `cluster-init` count for nothing; data is `db/etcd/member/wal` | pkg/etcd/etcd.go `IsInitialized` |
| `cluster-init` beside SQLite's data moves it, key by key, once, and renames it last | pkg/etcd/etcd.go `migrateFromSQLite` |
| a new member is a learner, one at a time, until the leader promotes it; a second of the same node name is fatal | pkg/etcd/etcd.go `join`, `manageLearners` |
| without a majority of the voting members nothing is read or written | etcd |
| a deleted Node's member is removed; its process ends, leaves a tombstone, and on its next start sets its data aside and joins (or founds!) anew | pkg/etcd/member_controller.go, pkg/etcd/etcd.go `Register`; issues 4023, 13498 |
| /db/info, to requests from the machine itself | pkg/etcd/etcd.go `infoHandler` |
| reset and restore: refused while `server` is set or its flag is there; with `etcd-s3` the path is a name in the bucket; the present data goes to `etcd-old-…` | pkg/cli/server/server.go, pkg/etcd/etcd.go `Reset`, `Restore` |
| the datastore is read with the token that wrote it | pkg/cluster/storage.go |
| `Sending HTTP 401 response to …` in a server's journal for another machine's wrong token | pkg/util/apierrors.go `SendError` |
| settings that differ between servers are fatal | pkg/cluster/bootstrap.go, docs/cli/server.md "Critical Configuration Values" |
| bare pods, budgets, emptyDir in a drain | kubectl drain |
| with SELinux enforcing, a binary that is a link is not started | k3s-selinux policy/centos9/k3s.fc |
| flannel takes the default route's interface unless it is told another | flannel `LookupExtInterface` |

It does not stand for: containers, images and their contents, networks, DNS, ingress, storage, certificates and TLS,
admission, RBAC, timing under load, etcd's own files and versions, external datastores, anything of Windows. Tokens are
compared, never used for encryption.

Levers of the tests, words in the file /etc/k3s-stand-in: `no-heartbeat` (the kubelet works no more), `no-pods`
(containers do not start). `k3s stand-in ghost NAME` adds a member to etcd that no node stands for.

For Python 3.11's smallest package (python3-minimal), which has neither json nor http nor yaml.
"""  # noqa: E501

# ruff: noqa: PLR0911, PLR0912, PTH103, PTH104, PTH108, PTH110, PTH112, PTH114, PTH116, PTH120, PTH123, PTH208, PTH211
# pathlib takes a while to import on a small machine, and each call of kubectl is a start of this program.

import ast
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

VERSION = "v1.35.4+k3s1"
FAULT = ""  # "never ready": the service starts and never says that it works
ROOT = "/var/lib/rancher/k3s"
SERVER, AGENT = f"{ROOT}/server", f"{ROOT}/agent"
DB = f"{SERVER}/db"
WAL, SQLITE, TOMBSTONE = f"{DB}/etcd/member/wal/0.wal", f"{DB}/state.db", f"{DB}/etcd/tombstone"
FLAG = f"{DB}/reset-flag"
FOLDER = "/etc/rancher/k3s"
CONFIG, KUBECONFIG, PASSWORD = f"{FOLDER}/config.yaml", f"{FOLDER}/k3s.yaml", "/etc/rancher/node/password"
BUCKET, LEVERS, LOG = "/srv/k3s-stand-in-bucket", "/etc/k3s-stand-in", "/var/log/k3s-stand-in.log"
PORT, KUBELET = 6443, 10250
GRACE = 40.0
TICK = 0.3
PROMOTION = 1.5


def words_of(text: str) -> list[str]:
    return text.split()


SHARED_OPTIONS = words_of("""node-name node-ip token-file node-label node-taint disable-default-registry-endpoint
 protect-kernel-defaults kubelet-arg kube-proxy-arg server flannel-iface selinux node-external-ip""")
SERVER_OPTIONS = words_of("""agent-token-file tls-san cluster-cidr service-cidr flannel-ipv6-masq write-kubeconfig-mode
 disable secrets-encryption kube-apiserver-arg kube-controller-manager-arg cluster-init cluster-reset
 cluster-reset-restore-path flannel-backend embedded-registry tls-san-security etcd-snapshot-retention
 etcd-snapshot-schedule-cron etcd-snapshot-compress etcd-snapshot-name etcd-s3 etcd-s3-endpoint etcd-s3-bucket
 etcd-s3-folder etcd-s3-region etcd-s3-insecure etcd-s3-bucket-lookup-type etcd-expose-metrics""")
SNAPSHOT_OPTIONS = words_of("""node-name token-file etcd-snapshot-compress etcd-snapshot-retention etcd-s3
 etcd-s3-endpoint etcd-s3-bucket etcd-s3-folder etcd-s3-region etcd-s3-insecure etcd-s3-bucket-lookup-type""")
KUBELET_ARGS = words_of("""streaming-connection-idle-timeout tls-cipher-suites fail-cgroupv1 image-gc-high-threshold
 image-gc-low-threshold max-pods""")
CRITICAL = words_of("cluster-cidr service-cidr flannel-backend secrets-encryption embedded-registry flannel-ipv6-masq")
LOCK = threading.RLock()
Record = dict[str, Any]
State = dict[str, Any]
Options = dict[str, Any]


def say(level: str, message: str) -> None:
    text = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    print(f'time="{time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}" level={level} msg="{text}"', file=sys.stderr)
    sys.stderr.flush()


def fatal(message: str) -> NoReturn:
    say("fatal", message)
    os._exit(1)


def read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def write(path: str, content: str, mode: int = 0o600) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with os.fdopen(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".new", path)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def lever(word: str) -> bool:
    return word in read(LEVERS).split()


def scalar(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text.strip("'\""))


def config(path: str, known: list[str]) -> Options:
    """A configuration file and its drop-ins in order; only flat keys and lists of scalars. What is unknown is left."""
    folder = f"{path}.d"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    files = [path, *(f"{folder}/{name}" for name in names if name.endswith((".yaml", ".yml")))]
    merged: Options = {}
    for each in files:
        key = ""
        for line in read(each).splitlines():
            if line.startswith("- "):
                merged[key].append(scalar(line[2:]))
            elif line.strip() and not line.startswith("#"):
                key, _, value = line.partition(":")
                merged[key] = scalar(value.strip()) if value.strip() else []
    for name in [name for name in merged if name not in known]:
        say("warning", f"Unknown flag --{name} found in config.yaml, skipping\n")
        del merged[name]
    return merged


def options(verb: str, arguments: list[str]) -> Options:
    """The configuration, then the command line, which wins."""
    known = {"server": SHARED_OPTIONS + SERVER_OPTIONS, "agent": SHARED_OPTIONS}.get(verb, SNAPSHOT_OPTIONS)
    given: Options = {}
    words = list(arguments)
    while words:
        name, equals, value = words.pop(0).lstrip("-").partition("=")
        if not equals and words and not words[0].startswith("-"):
            value = words.pop(0)
        given[name] = scalar(value) if value else True
    path = given.pop("config", CONFIG)
    for name in given:
        if name not in [*known, "name", "output"]:
            fatal(f"Error: flag provided but not defined: -{name}")
    return {**config(path, known), **given}


def secret(path: str) -> tuple[str, str]:
    """(hash of the CA or nothing, password) of a token file in short or secure format."""
    text = read(path).strip()
    if not text:
        fatal(f"token file {path} is empty")
    if oct(os.stat(path).st_mode & 0o777) != "0o600":
        fatal(f"token file {path} can be read by others")
    if not text.startswith("K10"):
        return "", text
    head, _, credentials = text.partition("::")
    return head[3:], credentials.partition(":")[2]


def ask(address: str, request: Record, port: int = PORT) -> Any:
    with socket.create_connection((address, port), timeout=2) as link:
        link.sendall((repr(request) + "\n").encode())
        link.shutdown(socket.SHUT_WR)
        data = b"".join(iter(lambda: link.recv(65536), b""))
    return ast.literal_eval(data.decode())


KINDS = ("nodes", "members", "namespaces", "pods")


def merge(own: State, other: State) -> None:
    """The newer record of each object."""
    for kind in KINDS:
        for name, record in other[kind].items():
            if record["rev"] > own[kind].get(name, {"rev": 0})["rev"]:
                own[kind][name] = record


def alive(state: State, kind: str) -> dict[str, Record]:
    return {name: record for name, record in state[kind].items() if not record.get("deleted")}


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.lstrip("v").replace("+k3s", ".").split("."))


class Process:
    """A running server or agent."""

    def __init__(self, verb: str, given: Options) -> None:
        self.verb, self.options, self.name = verb, given, given["node-name"]
        self.address = given["node-ip"].split(",")[0]
        if not os.path.exists(PASSWORD):
            write(PASSWORD, os.urandom(16).hex())
        self.password = read(PASSWORD)
        self.registered = False
        self.sqlite = self.quorum = self.api = False
        self.state: State = {}
        self.tokens: dict[str, str] = {}
        self.member = ""

    # kubelet

    def start_kubelet(self) -> None:
        for argument in self.options.get("kubelet-arg", []):
            name = argument.partition("=")[0]
            if name not in KUBELET_ARGS:
                message = f"kubelet exited: failed to parse kubelet flag: unknown flag: --{name}"
                threading.Timer(1.5, fatal, [message]).start()
                return
        threading.Thread(target=self.kubelet, daemon=True).start()

    def kubelet(self) -> None:
        """Registers the node once, then tells of itself and of its pods."""
        leave_traces()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("0.0.0.0", KUBELET))  # noqa: S104 - as k3s does
        except OSError:
            fatal(f"kubelet exited: listen tcp :{KUBELET}: bind: address already in use")
        listener.listen(16)
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        while True:
            if not lever("no-heartbeat"):
                self.beat()
            time.sleep(TICK)

    def record(self) -> Record:
        now = time.time()
        return {
            "role": "control-plane" if self.verb == "server" else "worker",
            "ip": self.address,
            "version": VERSION,
            "seen": now,
            "password": sha(self.password),
            "flannel": flannel_address(self.options),
            "rev": now,
        }

    def fresh(self) -> Record:
        """A node as it registers; later its labels and taints are the API's."""
        labels = dict(pair.split("=", 1) for pair in self.options.get("node-label", []))
        return {"labels": labels, "taints": self.options.get("node-taint", []), "cordoned": False}

    def beat(self) -> None:
        request = {
            "op": "beat", "name": self.name, "password": self.beat_password(), "record": self.record(),
            "fresh": self.fresh(), "register": not self.registered, "pods": not lever("no-pods"),
        }  # fmt: skip
        servers = ["127.0.0.1"] if self.verb == "server" else self.known()
        for address in servers:
            try:
                answer = ask(address, request)
            except OSError as reason:
                say("debug", f"{address}: {reason}")
                continue
            if "error" in answer:
                say("error", answer["error"])
                continue
            self.registered = True
            if self.verb == "agent" and answer["servers"]:
                write(f"{AGENT}/etc/servers", " ".join(answer["servers"]))
            return

    def beat_password(self) -> str:
        return self.tokens.get("server") or secret(self.options["token-file"])[1]

    def known(self) -> list[str]:
        return read(f"{AGENT}/etc/servers").split()

    # joining

    def join(self, url: str) -> Record:
        """Ask a server until it lets this machine in; its refusals are those of k3s."""
        host = url.split("//")[1].split(":", maxsplit=1)[0]
        ca, password = secret(self.options["token-file"])
        request = {
            "op": "join", "ca": ca, "password": password, "name": self.name, "role": self.verb,
            "node": sha(self.password), "critical": critical(self.options), "ip": self.address,
        }  # fmt: skip
        while True:
            try:
                answer = ask(host, request)
            except OSError as reason:
                answer = {"error": f"failed to get CA certs: {url}: {reason}"}
            if "error" not in answer:
                return dict(answer)
            if "duplicate" in answer["error"] or "critical" in answer["error"]:
                fatal(f"starting kubernetes: preparing server: {answer['error']}")
            level = "info" if "learner" in answer["error"] else "error"
            say(level, answer["error"])
            time.sleep(0.5)

    # the server

    def serve(self) -> NoReturn:
        selinux()
        import_images()
        flannel_address(self.options)
        self.load()
        write(KUBECONFIG, kubeconfig(self.state["ca"]))
        write(f"{AGENT}/server-ca.crt", self.state["ca"], 0o644)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("0.0.0.0", PORT))  # noqa: S104 - as k3s does
        except OSError:
            fatal(f"listen tcp :{PORT}: bind: address already in use")
        listener.listen(64)
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()
        self.start_kubelet()
        ready = False
        while True:
            self.look()
            if self.api and not ready:
                ready = True
                notify()
            time.sleep(TICK)

    def load(self) -> None:
        """Continue with the data; else join, else found, as the configuration says."""
        url, found = self.options.get("server"), self.options.get("cluster-init")
        if os.path.exists(TOMBSTONE):
            say("info", "tombstone file has been detected, removing data dir to rejoin the cluster")
            os.rename(f"{DB}/etcd", f"{DB}/etcd-backup-{time.time_ns()}")
        if read(WAL):
            self.resume(read(WAL))
            self.member = next(
                (name for name, it in alive(self.state, "members").items() if it["node"] == self.name), ""
            )
        elif url:
            answer = self.join(url)
            self.state, self.member = answer["state"], answer["member"]
        elif found:
            self.state = empty()
            self.member = self.add_member(learner=False)
            if os.path.exists(SQLITE):
                self.migrate()
        else:
            self.sqlite = True
            self.resume(read(SQLITE)) if read(SQLITE) else self.state.update(empty())
        self.state["version"] = VERSION
        self.accept_tokens()
        self.keep()
        if os.path.exists(FLAG):
            os.unlink(FLAG)

    def resume(self, stored: str) -> None:
        self.state = ast.literal_eval(stored)
        if version_key(self.state["version"]) > version_key(VERSION):
            fatal(f"the datastore was written by {self.state['version']}, newer than {VERSION}")

    def migrate(self) -> None:
        """Key by key; etcd has data from the first one on, and SQLite's file is renamed after the last one."""
        say("info", "Migrating content from sqlite to etcd")
        old = ast.literal_eval(read(SQLITE))
        self.state["ca"], self.state["token"] = old["ca"], old["token"]
        for kind in ("nodes", "namespaces", "pods"):
            for name, it in old[kind].items():
                self.state[kind][name] = it
                self.keep()
                time.sleep(0.1)
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(SQLITE + suffix):
                os.rename(SQLITE + suffix, f"{SQLITE}{suffix}.migrated")

    def add_member(self, *, learner: bool) -> str:
        name = f"{self.name}-{os.urandom(4).hex()}"
        self.state["members"][name] = {
            "rev": time.time(), "node": self.name, "ip": self.address, "learner": learner, "since": time.time(),
        }  # fmt: skip
        return name

    def accept_tokens(self) -> None:
        hashed = sha(self.state["ca"])
        write(f"{SERVER}/tls/server-ca.crt", self.state["ca"], 0o644)
        for name, user, option in (("token", "server", "token-file"), ("agent-token", "node", "agent-token-file")):
            ca, self.tokens[user] = secret(self.options[option])
            if ca and ca != hashed:
                fatal("token CA hash does not match the Cluster CA certificate hash")
            write(f"{SERVER}/{name}", f"K10{hashed}::{user}:{self.tokens[user]}\n")
        if self.state.setdefault("token", sha(self.tokens["server"])) != sha(self.tokens["server"]):
            fatal("bootstrap data already found and encrypted with different token")
        if not os.path.lexists(f"{SERVER}/node-token"):
            os.symlink(f"{SERVER}/token", f"{SERVER}/node-token")

    def look(self) -> None:
        """Speak with the other servers; learn whether there is a majority, and whether one is still a member."""
        with LOCK:
            peers = {it["ip"] for it in alive(self.state, "members").values()} - {self.address}
        heard = {self.address} if self.member_now() else set()
        for address in sorted(peers):
            if self.sync(address):
                heard.add(address)
        with LOCK:
            if not self.sqlite and self.state["members"].get(self.member, {}).get("deleted"):
                write(TOMBSTONE, "")
                fatal("the member has been permanently removed from the cluster")
            voters = {it["ip"] for it in alive(self.state, "members").values() if not it["learner"]}
            self.quorum = self.sqlite or len(voters & heard) > len(voters) // 2
            learner = not self.sqlite and self.member_now().get("learner", True)
            self.api = self.quorum and not learner
            if self.quorum and not self.sqlite and self.address == min(voters & heard):
                self.manage()
            self.keep()

    def member_now(self) -> Record:
        return alive(self.state, "members").get(self.member, {})

    def manage(self) -> None:
        """What the leader does: promote learners, remove members whose node was deleted."""
        now = time.time()
        for it in alive(self.state, "members").values():
            if it["learner"] and now - it["since"] > PROMOTION:
                it.update(learner=False, rev=now)
            node = self.state["nodes"].get(it["node"], {})
            if node.get("deleted") and node["rev"] > it["rev"]:
                it.update(deleted=True, rev=now)

    def sync(self, address: str) -> bool:
        try:
            with LOCK:
                own = repr(self.state)
            request = {"op": "sync", "password": self.tokens["server"], "state": ast.literal_eval(own)}
            answer = ask(address, request)
        except OSError:
            return False
        if "state" not in answer or answer["state"]["id"] != self.state["id"]:
            return False
        with LOCK:
            merge(self.state, answer["state"])
        return True

    def keep(self) -> None:
        write(SQLITE if self.sqlite else WAL, repr(self.state))

    def accept(self, listener: socket.socket) -> NoReturn:
        while True:
            link, (address, port) = listener.accept()
            threading.Thread(target=self.answer, args=(link, address, port), daemon=True).start()

    def answer(self, link: socket.socket, address: str, port: int) -> None:
        with link:
            data = b"".join(iter(lambda: link.recv(65536), b""))
            if not data:
                return  # somebody looks whether the port is open
            with LOCK:
                reply = self.handle(ast.literal_eval(data.decode()))
            if "401" in reply.get("error", ""):
                say("error", f"Sending HTTP 401 response to {address}:{port}: not authorized")
            link.sendall(repr(reply).encode())

    def handle(self, request: Record) -> Record:
        """One request; the state's lock is held."""
        verb = request["op"]
        if verb == "sync":
            if request["password"] != self.tokens["server"]:
                return {"error": "401 Unauthorized"}
            if request["state"]["id"] != self.state["id"]:
                return {"error": "cluster ID mismatch"}
            merge(self.state, request["state"])
            return {"state": self.state}
        if verb == "info":
            return {"members": alive(self.state, "members"), "sqlite": self.sqlite}
        if not self.api:
            return {"error": "etcdserver: request timed out" if not self.quorum else "apiserver not ready"}
        if verb == "join":
            return self.admit(request)
        if verb == "beat":
            return self.heard(request)
        if verb == "edit":
            for kind, name, change in request["changes"]:
                old = self.state[kind].get(name, {})
                self.state[kind][name] = {**old, **change, "rev": time.time()}
            self.keep()
        if verb == "rekey":
            self.state["token"] = sha(request["token"])
            self.keep()
        return {"state": self.state}

    def heard(self, request: Record) -> Record:
        """A kubelet's heartbeat. A node that was deleted is registered anew by a kubelet that starts, and no other."""
        if request["password"] not in self.tokens.values():
            return {"error": "Failed to validate connection to cluster: 401 Unauthorized"}
        old = self.state["nodes"].get(request["name"])
        gone = old is None or old.get("deleted")
        if gone and not request["register"]:
            return {"error": f'nodes "{request["name"]}" not found'}
        if not gone and old is not None and old["password"] != request["record"]["password"]:
            return {"error": "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password'"}
        kept = {key: old[key] for key in ("labels", "taints", "cordoned")} if old and not gone else request["fresh"]
        self.state["nodes"][request["name"]] = {**request["record"], **kept}
        for it in alive(self.state, "pods").values():
            if it["node"] == request["name"] and it["phase"] == "Pending" and request["pods"]:
                it.update(phase="Running", rev=time.time())
        self.keep()
        servers = [it["ip"] for it in alive(self.state, "nodes").values() if it["role"] == "control-plane"]
        return {"servers": servers}

    def admit(self, request: Record) -> Record:
        hashed = sha(self.state["ca"])
        if request["ca"] and request["ca"] != hashed:
            return {"error": f"token CA hash does not match the Cluster CA certificate hash: {hashed}"}
        allowed = [self.tokens["server"]] + ([self.tokens["node"]] if request["role"] == "agent" else [])
        if request["password"] not in allowed:
            return {"error": "Failed to validate connection to cluster: 401 Unauthorized"}
        node = alive(self.state, "nodes").get(request["name"])
        members = alive(self.state, "members")
        if request["role"] == "server":
            if self.sqlite:
                return {"error": "failed to get etcd MemberList: etcd datastore is not started; critical"}
            if differing := [
                key for key, value in request["critical"].items() if critical(self.options).get(key) != value
            ]:
                return {"error": f"critical configuration value mismatch between servers: {', '.join(differing)}"}
            if any(it["node"] == request["name"] for it in members.values()):
                return {"error": "etcd cluster join failed: duplicate node name found, please use a unique name"}
            if any(it["learner"] for it in members.values()):
                return {"error": "Waiting for other members to finish joining etcd cluster: too many learner members"}
        if node and node["password"] != request["node"]:
            return {"error": "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password'"}
        member = ""
        if request["role"] == "server":
            member = f"{request['name']}-{os.urandom(4).hex()}"
            self.state["members"][member] = {
                "rev": time.time(), "node": request["name"], "ip": request["ip"], "learner": True, "since": time.time(),
            }  # fmt: skip
            self.keep()
        return {"state": self.state, "member": member, "servers": [self.address]}

    # the agent

    def follow(self) -> NoReturn:
        selinux()
        import_images()
        flannel_address(self.options)
        if not self.options.get("server"):
            fatal("--server is required")
        if not self.known():
            answer = self.join(self.options["server"])
            write(f"{AGENT}/server-ca.crt", answer["state"]["ca"], 0o644)
            write(f"{AGENT}/etc/servers", " ".join(answer["servers"]))
        self.start_kubelet()
        while not self.there():
            time.sleep(TICK)
        notify()
        while True:
            time.sleep(60)

    def there(self) -> bool:
        """Whether an API server answers and has this machine's Node, from now or from before."""
        for address in self.known():
            try:
                answer = ask(address, {"op": "state"})
            except OSError:
                continue
            if "state" in answer and self.name in alive(answer["state"], "nodes"):
                return True
        return False


def hang_up(listener: socket.socket) -> NoReturn:
    while True:
        listener.accept()[0].close()


def empty() -> State:
    """A new cluster, with the authority that is on disk already."""
    ca = read(f"{SERVER}/tls/server-ca.crt") or f"-----stand-in CA {os.urandom(8).hex()}-----\n"
    now = time.time()
    system = {name: {"rev": now} for name in ("default", "kube-system", "kube-node-lease")}
    return {
        "id": os.urandom(8).hex(), "ca": ca, "nodes": {}, "members": {}, "pods": {}, "namespaces": system,
        "version": VERSION,
    }  # fmt: skip


def critical(given: Options) -> Options:
    return {key: str(given[key]) for key in CRITICAL if key in given}


def notify() -> None:
    path = os.environ.get("NOTIFY_SOCKET")
    if path and FAULT != "never ready":
        say("info", "k3s is up and running")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.sendto(b"READY=1", path.replace("@", "\0", 1))


def selinux() -> None:
    """The policy labels /usr/local/bin/k3s as an ordinary file; what a link leads to has no label that may run."""
    done = subprocess.run(["sh", "-c", "getenforce"], capture_output=True, text=True, check=False)
    if done.stdout.strip() == "Enforcing" and os.path.islink("/usr/local/bin/k3s"):
        fatal("permission denied (SELinux)")


def flannel_address(given: Options) -> str:
    """The address that other machines send pods' traffic to."""
    shown = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=False).stdout
    own = {line.split()[1]: line.split()[3].split("/")[0] for line in shown.splitlines()}
    route = subprocess.run(["ip", "-4", "route", "show", "default"], capture_output=True, text=True, check=False).stdout
    chosen = given.get("flannel-iface") or (route.split("dev ")[1].split()[0] if "dev " in route else "")
    if chosen not in own:
        fatal(f"flannel exited: failed to find interface {chosen or 'of the default route'}")
    return own[chosen]


def import_images() -> None:
    folder = f"{AGENT}/images"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if ".tar" in name:
            say("info", f"Importing images from {folder}/{name}")
            write(f"{ROOT}/data/stand-in/imported/{name}", "")


def kubeconfig(ca: str) -> str:
    return f"""apiVersion: v1
kind: Config
clusters: [{{name: default, cluster: {{certificate-authority-data: "{sha(ca)}", server: "https://127.0.0.1:6443"}}}}]
users: [{{name: default, user: {{client-certificate-data: stand-in, client-key-data: stand-in}}}}]
contexts: [{{name: default, context: {{cluster: default, user: default}}}}]
current-context: default
"""


def quiet(*argv: str) -> bool:
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def leave_traces() -> None:
    """What pods and k3s leave on a machine: a shim, mounts, links, chains, sets, a network namespace."""
    shim = f"{ROOT}/data/stand-in/bin/containerd-shim-runc-v2"
    if not os.path.exists(shim):
        os.makedirs(f"{os.path.dirname(shim)}/aux", exist_ok=True)
        quiet("cp", "/bin/sleep", shim)
        for tool in ("iptables", "iptables-save", "iptables-restore", "ipset"):
            target = f"{os.path.dirname(shim)}/aux/{tool}"
            quiet("sh", "-c", 'cp "$(readlink -f "$(command -v "$1")")" "$2"', "sh", tool, target)
    if not quiet("pgrep", "-f", f"^{shim}"):
        subprocess.Popen(
            [shim, "infinity"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    for path in ("/run/k3s/containerd/sandbox/shm", "/var/lib/kubelet/pods/stand-in/volumes/v"):
        os.makedirs(path, exist_ok=True)
        if f" {path} " not in read("/proc/mounts"):
            quiet("mount", "-t", "tmpfs", "stand-in", path)
    quiet("ip", "link", "add", "cni0", "type", "bridge")
    quiet("ip", "link", "add", "veth5ta2d1", "master", "cni0", "type", "veth", "peer", "name", "veth5ta2d2")
    quiet("ip", "link", "add", "flannel.1", "type", "vxlan", "id", "1", "dev", "eth0", "dstport", "8472")
    quiet("ip", "netns", "add", "cni-5ta2d1")
    for chain, parent in (
        ("KUBE-SERVICES", "OUTPUT"),
        ("FLANNEL-POSTRTG", "POSTROUTING"),
        ("CNI-HOSTPORT-DNAT", "PREROUTING"),
    ):
        if quiet("iptables", "-t", "nat", "-N", chain):
            quiet("iptables", "-t", "nat", "-A", parent, "-m", "comment", "--comment", "stand-in", "-j", chain)
            quiet("iptables", "-t", "nat", "-A", chain, "-j", "RETURN")
    quiet("ipset", "create", "KUBE-SRC-STANDIN", "hash:ip")


# kubectl


def dump(value: Any) -> str:
    """JSON, which the smallest Python has no module for."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dump(str(name))}: {dump(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(dump, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return repr(value)


def parse(text: str) -> Any:
    words = {"true": "True", "false": "False", "null": "None"}
    return ast.literal_eval(re.sub(r"\b(true|false|null)\b", lambda match: words[match[1]], text))


def stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f"{seconds % 1:.6f}Z"[1:]


def node_object(name: str, it: Record, members: dict[str, Record]) -> Record:
    ready = time.time() - it["seen"] < GRACE
    gone = "Kubelet stopped posting node status."
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown", "message": "" if ready else gone}]
    if member := next((own for own in members.values() if own["node"] == name), None):
        conditions.append({"type": "EtcdIsVoter", "status": "False" if member["learner"] else "True"})
    taints = []
    for taint in it["taints"]:
        head, _, effect = taint.rpartition(":")
        key, _, value = head.partition("=")
        taints.append({"key": key, "effect": effect, **({"value": value} if value else {})})
    annotations = {"flannel.alpha.coreos.com/public-ip": it["flannel"]}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": it["labels"], "annotations": annotations},
        "spec": {"unschedulable": it["cordoned"], "taints": taints},
        "status": {"nodeInfo": {"kubeletVersion": it["version"]}, "conditions": conditions},
    }


def pod_object(it: Record) -> Record:
    return {
        "metadata": {"name": it["name"], "namespace": it["namespace"], "ownerReferences": it["owners"]},
        "spec": {"nodeName": it["node"], "volumes": it["volumes"]},
        "status": {"phase": it["phase"]},
    }


def missing(what: str) -> int:
    print(f"Error from server (NotFound): {what} not found", file=sys.stderr)
    return 1


class Kubectl:
    """As far as the driver and its tests call it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.nodes, self.pods = alive(state, "nodes"), alive(state, "pods")
        self.changes: list[tuple[str, str, Record]] = []

    def run(self, words: list[str], flags: list[str]) -> int:
        match words:
            case ["get", "/readyz"]:
                print("ok")
            case ["get", "nodes"]:
                members = alive(self.state, "members")
                items = [node_object(name, it, members) for name, it in self.nodes.items()]
                print(dump({"kind": "List", "items": items}))
            case ["get", "lease", name]:
                if name not in self.nodes:
                    return missing(f'leases.coordination.k8s.io "{name}"')
                print(dump({"spec": {"renewTime": stamp(self.nodes[name]["seen"])}}))
            case ["get", "pods"]:
                node = next(it.rpartition("=")[2] for it in flags if it.startswith("--field-selector"))
                print(dump({"items": [pod_object(it) for it in self.pods.values() if it["node"] == node]}))
            case ["get", "pod", name]:
                it = self.pods.get(f"{namespace(flags)}/{name}")
                if it is None:
                    return missing(f'pods "{name}"')
                print(dump(pod_object(it)))
            case ["get", kinds]:
                for kind in kinds.split(","):
                    for name in alive(self.state, kind) if kind in ("namespaces", "nodes") else ():
                        print(f"{kind.removesuffix('s')}/{name}")
            case ["create", "namespace", name]:
                self.changes.append(("namespaces", name, {"deleted": False}))
            case ["create"]:
                self.create(parse(sys.stdin.read()))
            case ["drain", name]:
                return self.drain(name, flags) if name in self.nodes else missing(f'nodes "{name}"')
            case ["uncordon", name]:
                self.changes.append(("nodes", name, {"cordoned": False}))
            case ["delete", "node", name]:
                if name in self.nodes:
                    self.changes.append(("nodes", name, {"deleted": True}))
            case ["delete", "pod", name]:
                if f"{namespace(flags)}/{name}" in self.pods:
                    self.changes.append(("pods", f"{namespace(flags)}/{name}", {"deleted": True}))
            case ["label" | "taint" as verb, "node", name, *given]:
                self.mark(verb, name, given)
            case _:
                fatal(f"the stand-in has no kubectl {' '.join(words)}")
        return 0

    def create(self, pod: Record) -> None:
        meta, spec = pod["metadata"], pod["spec"]
        it = {
            "name": meta["name"], "namespace": meta.get("namespace", "default"), "node": spec["nodeName"],
            "owners": meta.get("ownerReferences", []), "volumes": spec.get("volumes", []), "phase": "Pending",
            "budget": meta.get("annotations", {}).get("stand-in/budget", ""), "deleted": False,
        }  # fmt: skip
        self.changes.append(("pods", f"{it['namespace']}/{it['name']}", it))

    def mark(self, verb: str, name: str, given: list[str]) -> None:
        if verb == "label":
            kept = {**self.nodes[name]["labels"], **dict(it.split("=", 1) for it in given if "=" in it)}
            gone = {it[:-1] for it in given if "=" not in it}
            labels = {it: value for it, value in kept.items() if it not in gone}
            self.changes.append(("nodes", name, {"labels": labels}))
        else:
            gone = {it[:-1] for it in given if it.endswith("-")}
            taints = [it for it in self.nodes[name]["taints"] if it not in gone]
            self.changes.append(("nodes", name, {"taints": taints + [it for it in given if not it.endswith("-")]}))

    def drain(self, name: str, flags: list[str]) -> int:
        edit([("nodes", name, {"cordoned": True})])
        print(f"node/{name} cordoned")
        own = {key: it for key, it in self.pods.items() if it["node"] == name}
        own = {key: it for key, it in own.items() if not any(owner["kind"] == "DaemonSet" for owner in it["owners"])}
        if (bare := [key for key, it in own.items() if not it["owners"]]) and "--force" not in flags:
            print(
                "error: unable to drain node due to error: cannot delete cannot delete Pods that declare no controller "
                f"(use --force to override): {', '.join(bare)}",
                file=sys.stderr,
            )
            return 1
        limit = next((float(it.partition("=")[2].rstrip("s")) for it in flags if it.startswith("--timeout")), 0.0)
        end = time.monotonic() + limit
        for key, it in own.items():
            while it["budget"] == "blocked":
                print(
                    f"error when evicting pods {key}: Cannot evict pod as it would violate the pod's disruption budget."
                )
                if time.monotonic() > end:
                    print("error: drain did not complete: global timeout reached", file=sys.stderr)
                    return 1
                time.sleep(0.5)
            time.sleep(0.3)
            edit([("pods", key, {"deleted": True})])
        return 0


def namespace(flags: list[str]) -> str:
    return next((it[3:] for it in flags if it.startswith("-n ")), "default")


def edit(changes: list[tuple[str, str, Record]]) -> None:
    answer = ask("127.0.0.1", {"op": "edit", "changes": changes})
    if "error" in answer:
        print(f"Error from server: {answer['error']}", file=sys.stderr)
        os._exit(1)


def kubectl(arguments: list[str]) -> int:
    if not os.path.exists(KUBECONFIG):
        fatal("no kubeconfig")
    words: list[str] = []
    flags: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("-n", "-o", "-f"):
            flags.append(f"{word} {rest.pop(0)}")
        else:
            (flags if word.startswith("-") else words).append(word)
    try:
        answer = ask("127.0.0.1", {"op": "info" if words == ["get", "/db/info"] else "state"})
    except OSError:
        print(
            "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?",
            file=sys.stderr,
        )
        return 1
    if "error" in answer:
        print(f"Error from server (Timeout): {answer['error']}", file=sys.stderr)
        return 1
    if words == ["get", "/db/info"]:
        if answer["sqlite"]:
            print("Error from server (NotFound): the server could not find the requested resource", file=sys.stderr)
            return 1
        members = [
            {"ID": abs(hash(name)), "name": name, "peerURLs": [f"https://{it['ip']}:2380"],
             **({"isLearner": True} if it["learner"] else {})}
            for name, it in answer["members"].items()
        ]  # fmt: skip
        print(dump({"members": members}))
        return 0
    client = Kubectl(answer["state"])
    status = client.run(words, flags)
    if client.changes:
        edit(client.changes)
    return status


# etcd-snapshot, reset, keys


def snapshot(verb: str, given: Options) -> int:
    answer = ask("127.0.0.1", {"op": "state"})
    info = ask("127.0.0.1", {"op": "info"})
    if "error" in answer or info["sqlite"]:
        fatal(f"see server log for details: {answer.get('error', 'etcd datastore is not started')}")
    if verb in ("ls", "list"):
        names = os.listdir(BUCKET) if given.get("etcd-s3") and os.path.isdir(BUCKET) else []
        items = [
            {"spec": {"snapshotName": name, "location": f"s3://{given.get('etcd-s3-bucket')}/{name}", "nodeName": "s3"},
             "status": {"size": "4096", "creationTime": stamp(os.stat(f"{BUCKET}/{name}").st_mtime)}}
            for name in names
        ]  # fmt: skip
        print(dump({"items": items}))
        return 0
    name = f"{given.get('name', 'on-demand')}-{given['node-name']}-{int(time.time())}"
    name += ".zip" if given.get("etcd-snapshot-compress") else ""
    write(f"{DB}/snapshots/{name}", repr(answer["state"]))
    if given.get("etcd-s3"):
        write(f"{BUCKET}/{name}", repr(answer["state"]))
    say("info", f"Snapshot {name} saved.")
    return 0


def reset(given: Options) -> int:
    """`server --cluster-reset --cluster-reset-restore-path=…`: this member alone, with the snapshot's data."""
    if given.get("server"):
        fatal(
            "cannot perform cluster-reset while server URL is set - remove server from configuration before resetting"
        )
    if os.path.exists(FLAG):
        fatal(f"cluster-reset was successfully performed, delete {FLAG} to perform another")
    path = given["cluster-reset-restore-path"]
    if given.get("etcd-s3"):
        path = f"{BUCKET}/{path}"
        if not os.path.exists(path):
            fatal(f"failed to download snapshot from S3: The specified key does not exist: {path}")
    if not os.path.exists(path):
        fatal(f"etcd: snapshot path does not exist: {path}")
    state = ast.literal_eval(read(path))
    if state.get("token", "") not in ("", sha(secret(given["token-file"])[1])):
        fatal("failed to decrypt bootstrap data: encrypted with different token")
    os.makedirs(f"{DB}/etcd", exist_ok=True)
    os.rename(f"{DB}/etcd", f"{DB}/etcd-old-{int(time.time())}-{os.urandom(2).hex()}")
    name = given["node-name"]
    now = time.time()
    state["id"] = os.urandom(8).hex()
    state["members"] = {
        f"{name}-{os.urandom(4).hex()}": {
            "rev": now, "node": name, "ip": given["node-ip"].split(",")[0], "learner": False, "since": now,
        }
    }  # fmt: skip
    write(WAL, repr({**state, "namespaces": {}}))  # first the files, then their content: a reset can be cut off
    time.sleep(0.3)
    write(WAL, repr(state))
    write(f"{SERVER}/tls/server-ca.crt", state["ca"], 0o644)
    write(FLAG, "")
    say("info", "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now.")
    return 0


def rotate_token() -> int:
    new = os.urandom(16).hex()
    ask("127.0.0.1", {"op": "rekey", "token": new})
    head = read(f"{SERVER}/token").partition("::")[0]
    write(f"{SERVER}/token", f"{head}::server:{new}\n")
    say("info", "Token rotated, restart k3s nodes with new token")
    return 0


def ghost(name: str) -> int:
    now = time.time()
    it = {"rev": now, "node": name.rpartition("-")[0], "ip": "192.168.51.250", "learner": False, "since": now}
    edit([("members", name, {**it, "deleted": False})])
    return 0


def main(argv: list[str]) -> int:
    environment = {name: value for name, value in os.environ.items() if name.startswith("K3S_")}
    with open(LOG, "a") as log:
        log.write(repr((argv, environment)) + "\n")
    match argv:
        case ["--version"]:
            print(f"k3s version {VERSION} (stand-in)\ngo version none")
        case ["kubectl", *rest]:
            return kubectl(rest)
        case ["crictl", "images", *_]:
            print(dump({"images": [{"id": "sha256:1", "repoTags": ["docker.io/rancher/mirrored-pause:3.6"]}]}))
        case ["etcd-snapshot", verb, *rest]:
            return snapshot(verb, options("etcd-snapshot", rest))
        case ["token", "rotate"]:
            return rotate_token()
        case ["certificate", "rotate"]:
            write(f"{ROOT}/stand-in-certificates", str(time.time()))
        case ["secrets-encrypt", "rotate-keys"]:
            write(f"{SERVER}/stand-in-key", str(time.time()))
        case ["secrets-encrypt", "status"]:
            done = time.time() - float(read(f"{SERVER}/stand-in-key") or 0) > 1
            print(f"Encryption Status: Enabled\nCurrent Rotation Stage: reencrypt_{'finished' if done else 'active'}")
        case ["stand-in", "ghost", name]:
            return ghost(name)
        case ["server", *rest] if any(word.startswith("--cluster-reset") for word in rest):
            return reset(options("server", rest))
        case ["server" | "agent" as verb, *rest]:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            process = Process(verb, options(verb, rest))
            process.serve() if verb == "server" else process.follow()
        case _:
            fatal(f"the stand-in has no k3s {' '.join(argv)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
