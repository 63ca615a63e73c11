"""Run the code of models, each piece in a fresh box. The only part of the agents that is root; standard library alone.

    python -I keeper.py SETTINGS serve NAME     one request on standard input, a socket of systemd; one answer there
    python -I keeper.py SETTINGS end NAME       take away what a keeper that was killed left of a box
    python -I keeper.py SETTINGS forget         take away all boxes and the image

Who asks has no rights here but to have code run: it sends the files and gets them back by value, so no path of its own
is ever opened by root. Request and answer are one line of JSON each. The work folder is a small tmpfs of the box's own,
and what the code left there is read when none of its processes is left. Every box has a user id of its own, so that the
limit on processes, which the kernel counts by user, holds for each alone.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import secrets
import selectors
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

BOXES = Path("/run/labwright-boxes")
WORK = "/run/work"  # in the box
READY = b"ready\n"  # what a box says before its code does
FIRST_UID, UIDS = 1_900_000_000, 200_000_000  # 1,879,048,192 to 2,147,483,647 are nobody's (systemd's UIDS-GIDS)
MOST_OUTPUT = 1 << 20
MOST_FILES, DEEPEST, MOST_TMP_MIB = 1000, 16, 64
LANGUAGES = {"python": ["{prefix}/bin/python", "-u", "-B"], "sh": ["/bin/sh"]}
IMAGE, LABEL = "labwright-box", "labwright.box"
# Of the system the box sees programs and libraries, what those need to find one another, and the agents' environment.
SHOWN = ("/usr", "/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime")
LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
HIDDEN_NOT = {"usr", "proc", "sys", "dev", "tmp", *(one[1:] for one in LINKS)}


class Fault(Exception):
    """What a request or a box lacks, in words for the person who reads the conversation."""


def main(argv: list[str]) -> int:
    """Do one of three things; see above."""
    settings = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    what, name = argv[1], f"{IMAGE}-{argv[2]}" if len(argv) > 2 else ""
    if what == "serve":
        try:
            said = serve(settings, name, sys.stdin.buffer)
        except Fault as fault:
            said = {"fault": str(fault)}
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
            sys.stdout.buffer.flush()
    elif what == "end":
        end(settings, name)
    else:
        forget()
    return 0


def serve(settings: dict[str, Any], name: str, stream: BinaryIO) -> dict[str, Any]:
    """Judge one request, run it, and say what came of it."""
    request = judge(stream.readline(room(settings) * 2), settings)
    folder = BOXES / name
    end(settings, name)  # a box of this name that a power cut left
    try:
        make(folder, int(settings["work_mib"]))
        for path, data in request["files"].items():
            put(folder, path, data)
        return run(settings, name, folder, request)
    finally:
        end(settings, name)


def room(settings: dict[str, Any]) -> int:
    """Bytes of a work folder."""
    return int(settings["work_mib"]) << 20


def judge(line: bytes, settings: dict[str, Any]) -> dict[str, Any]:
    """A request with its files decoded; Fault for whatever is not one."""
    try:
        request = json.loads(line)
        files = {str(path): base64.b64decode(text, validate=True) for path, text in request["files"].items()}
        language, script, seconds = request["language"], request["script"], int(request["seconds"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Fault(f"this is no request: {error!r}") from error
    for path in files:
        parts = PurePosixPath(path).parts
        if path != "/".join(parts) or {"/", ".", ".."} & set(parts) or not 0 < len(parts) <= DEEPEST or "\0" in path:
            raise Fault(f"{path!r} is no name below the work folder")
    if sum(map(len, files.values())) > room(settings) or len(files) > MOST_FILES:
        raise Fault(f"the work folder has more than {settings['work_mib']} MiB or {MOST_FILES} files")
    if language not in LANGUAGES or script not in files:
        raise Fault(f"language {language!r} is none of {', '.join(LANGUAGES)}, or {script!r} is not among the files")
    if not 0 < seconds <= int(settings["seconds"]):
        raise Fault(f"{seconds} s are asked for, and at most {settings['seconds']} s are allowed")
    return {"files": files, "language": language, "script": script, "seconds": seconds}


def make(folder: Path, mib: int) -> None:
    """A work folder of at most so many MiB, which nobody but the box reaches."""
    BOXES.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir()
    bounds = f"size={mib}m,nr_inodes={4 * MOST_FILES},mode=1777,nosuid,nodev"
    command("mount", "-t", "tmpfs", "-o", bounds, IMAGE, str(folder))


def put(folder: Path, path: str, data: bytes) -> None:
    """Write one file for the box, which may change it; no code has run in the folder yet."""
    target = folder / path
    try:
        for parent in reversed([one for one in target.parents if folder in one.parents]):
            parent.mkdir(exist_ok=True)
            parent.chmod(0o777)
        target.write_bytes(data)
        target.chmod(0o666)
    except OSError as error:
        raise Fault(f"{path!r} cannot be written: {error.strerror}") from error


def taken(folder: Path, most: int) -> dict[str, str] | None:
    """Plain files that the code left, or None when they are more than the folder may hold: some of them alone would
    look as if the others had been removed. No link is followed, nothing but a file is opened."""
    found: dict[str, str] = {}
    waiting, size = [""], 0
    while waiting:
        inner = waiting.pop()
        here = os.open(folder / inner, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with os.scandir(here) as rows:
                names = sorted(row.name for row in rows)
            for name in names:
                path = f"{inner}/{name}" if inner else name
                kind = os.stat(name, dir_fd=here, follow_symlinks=False)
                if stat.S_ISDIR(kind.st_mode):
                    if path.count("/") >= DEEPEST - 1:
                        return None
                    waiting.append(path)
                elif stat.S_ISREG(kind.st_mode):
                    size += kind.st_size  # of a file with holes, more than it takes up
                    if size > most or len(found) >= MOST_FILES:
                        return None
                    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=here), "rb") as file:
                        found[path] = base64.b64encode(file.read(kind.st_size)).decode()
        finally:
            os.close(here)
    return found


def run(settings: dict[str, Any], name: str, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Run the code in a new box, until it ends or is ended."""
    uid = FIRST_UID + secrets.randbelow(UIDS)
    words = [word.format(**settings) for word in LANGUAGES[request["language"]]] + [request["script"]]
    # One stream: Docker carries two, and what came on the second may arrive before the first's. The shell waits, for
    # it says of every kind of box alike how the code ended: systemd-run has one number, 255, for whatever was killed.
    inside = ["/bin/sh", "-c", f'exec 2>&1; echo {READY.decode().strip()}; "$@"; exit $?', "box", *words]
    if settings["kind"] == "docker":
        argv = docker(settings, name, folder, uid, inside)
    else:
        argv = unit(settings, name, folder, uid, request["seconds"], inside)
    output, cause, status = watch(argv, request["seconds"])
    stop(settings, name)
    if not output.startswith(READY):
        if cause:
            raise Fault(f"the box did not begin within {request['seconds']} s")
        raise Fault(
            f"the box could not be made: {output.decode(errors='replace').strip()[-500:] or f'status {status}'}"
        )
    space = os.statvfs(folder)
    files = taken(folder, room(settings))
    if not cause and status and (not space.f_bfree or not space.f_ffree):
        cause = "disk"
    if not cause and status in (137, -9):  # killed, and not by us
        cause = "killed"
    text = output.removeprefix(READY).decode(errors="replace")
    return {"exit_code": status, "output": text, "cause": cause, "files": files}


def watch(argv: list[str], seconds: int) -> tuple[bytes, str, int]:
    """Output, cause of a forced end, and status of a command. It ends with its time, with its output, and with whoever
    asked for it: one who is gone reads no answer."""
    output, cause = b"", ""
    until = time.monotonic() + seconds
    with (
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
        selectors.DefaultSelector() as ready,
    ):
        assert process.stdout  # noqa: S101
        ready.register(process.stdout, selectors.EVENT_READ)
        ready.register(0, selectors.EVENT_READ)
        while not cause:
            left = until - time.monotonic()
            events = [key.fd for key, _mask in ready.select(max(0.0, left))] if left > 0 else []
            if left <= 0:
                cause = "time"
            elif 0 in events:
                cause = "gone"
            elif events:
                piece = os.read(process.stdout.fileno(), 1 << 16)
                if not piece:
                    break
                output += piece
                cause = "output" if len(output) > MOST_OUTPUT else ""
        if cause:
            process.kill()  # Docker's client goes before its container: `docker kill` waits until all output is read
        return output[:MOST_OUTPUT], cause, 124 if cause else process.wait()


def limits(settings: dict[str, Any]) -> dict[str, int]:
    """What the kernel holds each process to, also where cgroups enforce nothing; by the names of setrlimit."""
    return {
        "nproc": int(settings["processes"]),
        "data": int(settings["memory_mib"]) << 20,
        "fsize": room(settings),
        "nofile": 256,
        "core": 0,
        "memlock": 0,
        "msgqueue": 0,
    }


def docker(settings: dict[str, Any], name: str, folder: Path, uid: int, inside: list[str]) -> list[str]:
    """Make a container that has nothing but the box; return the command that runs it."""
    shown = [
        path for path in (*SHOWN, *LINKS) if Path(path).exists() and not (path in LINKS and Path(path).is_symlink())
    ]
    binds = [f"type=bind,src={Path(path).resolve()},dst={path},readonly" for path in [*shown, settings["prefix"]]]
    most = f"{settings['memory_mib']}m"
    options = [
        *("--name", name, "--label", LABEL, "--hostname", "box", "--network", "none", "--log-driver", "none"),
        *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", f"{uid}:{uid}"),
        *("--memory", most, "--memory-swap", most, "--pids-limit", str(settings["processes"]), "--shm-size", "16m"),
        *("--tmpfs", f"/tmp:rw,nosuid,nodev,mode=1777,size={MOST_TMP_MIB}m,nr_inodes={4 * MOST_FILES}"),  # noqa: S108
        *("--mount", f"type=bind,src={folder},dst={WORK}", "--workdir", WORK),
        *(word for bind in binds for word in ("--mount", bind)),
        *(word for kind, value in limits(settings).items() for word in ("--ulimit", f"{kind}={value}")),
        *(word for key, value in variables(settings).items() for word in ("--env", f"{key}={value}")),
    ]
    made = f"{IMAGE}:{image()}"
    try:
        command("docker", "create", "--cpus", "1", *options, made, *inside)
    except Fault as fault:
        if "CFS" not in str(fault):
            raise
        command("docker", "create", *options, made, *inside)  # this kernel shares out no processor time
    return ["docker", "start", "--attach", name]


def image() -> str:
    """The tag of the image, which is the sum of its bytes: empty folders to mount on, and the system's links. It is
    made here, so no registry is needed, and anew when somebody took it away."""
    text = io.BytesIO()
    with tarfile.open(fileobj=text, mode="w") as tar:
        for path in ("/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/usr", *LINKS):  # noqa: S108
            entry = tarfile.TarInfo(path[1:])
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == "/tmp" else 0o755  # noqa: S108
            if path in LINKS and Path(path).is_symlink():
                entry.type, entry.linkname = tarfile.SYMTYPE, str(Path(path).readlink())
            tar.addfile(entry)
    tag = hashlib.sha256(text.getvalue()).hexdigest()[:16]
    if not command("docker", "image", "ls", "--quiet", f"{IMAGE}:{tag}").strip():
        command("docker", "import", "-", f"{IMAGE}:{tag}", text=text.getvalue())
    return tag


def unit(settings: dict[str, Any], name: str, folder: Path, uid: int, seconds: int, inside: list[str]) -> list[str]:
    """The command that runs a transient unit which has nothing but the box."""
    hidden = sorted(f"/{one.name}" for one in Path("/").iterdir() if one.is_dir() and one.name not in HIDDEN_NOT)
    empty = [f"{path}:ro" for path in hidden]
    tmp = f"size={MOST_TMP_MIB}m,nr_inodes={4 * MOST_FILES},mode=1777,nosuid,nodev"
    names = {"nproc": "NPROC", "data": "DATA", "fsize": "FSIZE", "nofile": "NOFILE", "core": "CORE"}
    names |= {"memlock": "MEMLOCK", "msgqueue": "MSGQUEUE"}
    properties = {
        "CapabilityBoundingSet": "CAP_SETUID CAP_SETGID CAP_SETPCAP",  # until setpriv has dropped them
        "NoNewPrivileges": "yes",
        "PrivateNetwork": "yes",
        "PrivateIPC": "yes",
        "PrivateDevices": "yes",
        "ProtectSystem": "strict",
        "ProtectProc": "invisible",
        "ProcSubset": "pid",
        "ProtectKernelTunables": "yes",
        "ProtectKernelModules": "yes",
        "ProtectKernelLogs": "yes",
        "ProtectControlGroups": "yes",
        "ProtectClock": "yes",
        "ProtectHostname": "yes",
        "RestrictNamespaces": "yes",
        "RestrictRealtime": "yes",
        "RestrictSUIDSGID": "yes",
        "LockPersonality": "yes",
        "RestrictAddressFamilies": "AF_UNIX",
        "SystemCallArchitectures": "native",
        "KeyringMode": "private",
        "TemporaryFileSystem": " ".join([*empty, f"/tmp:{tmp}", "/dev/shm:size=16m,mode=1777,nosuid,nodev"]),  # noqa: S108
        "InaccessiblePaths": "/sys /dev/mqueue",
        "BindReadOnlyPaths": " ".join(f"-{path}" for path in [*SHOWN[1:], settings["prefix"]]),
        "BindPaths": f"{folder}:{WORK}",
        "WorkingDirectory": WORK,
        "MemoryMax": f"{settings['memory_mib']}M",
        "MemorySwapMax": "0",
        "OOMPolicy": "continue",  # the shell is to say what became of the code
        "TasksMax": str(settings["processes"]),
        "CPUQuota": "100%",
        "RuntimeMaxSec": str(seconds + 10),
        "TimeoutStopSec": "1",
        **{f"Limit{names[kind]}": str(value) for kind, value in limits(settings).items()},
    }
    drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    return [
        *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec", f"--unit={name}"),
        *(word for key, value in properties.items() for word in ("-p", f"{key}={value}")),
        *(word for key, value in variables(settings).items() for word in ("-E", f"{key}={value}")),
        *("--", *drop, "--", *inside),
    ]


def variables(settings: dict[str, Any]) -> dict[str, str]:
    """The environment of the code."""
    path = f"{settings['prefix']}/bin:/usr/local/bin:/usr/bin:/bin"
    return {"HOME": WORK, "PATH": path, "LANG": "C.UTF-8", "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1"}


def stop(settings: dict[str, Any], name: str) -> None:
    """End every process of a box."""
    if settings["kind"] == "docker":
        quietly("docker", "rm", "--force", "--volumes", name)
    else:
        quietly("systemctl", "kill", "--signal=KILL", f"{name}.service")
        quietly("systemctl", "stop", f"{name}.service")


def end(settings: dict[str, Any], name: str) -> None:
    """Take a box away, whatever is left of it."""
    folder = BOXES / name
    if folder.exists():
        stop(settings, name)
        quietly("umount", "--lazy", str(folder))
        folder.rmdir()


def forget() -> None:
    """Take all boxes away, and the image."""
    quietly("systemctl", "stop", "labwright-sandbox@*.service")  # each takes its box with it
    boxes = quietly("docker", "ps", "--all", "--quiet", "--filter", f"label={LABEL}").split()
    if boxes:
        quietly("docker", "rm", "--force", "--volumes", *boxes)
    tags = quietly("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", IMAGE).split()
    if tags:
        quietly("docker", "image", "rm", "--force", *tags)
    with contextlib.suppress(OSError):
        BOXES.rmdir()


def command(*argv: str, text: bytes = b"") -> str:
    """Run a command to its end; Fault with its words when it fails, or is not there."""
    try:
        done = subprocess.run(argv, input=text, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Fault(f"{argv[0]}: {error}") from error
    if done.returncode:
        raise Fault(f"{' '.join(argv[:2])}: {(done.stderr or done.stdout).decode(errors='replace').strip()[-500:]}")
    return done.stdout.decode(errors="replace")


def quietly(*argv: str) -> str:
    """The same, where it does not matter whether there is anything to do."""
    try:
        return command(*argv)
    except Fault:
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
