"""Accounts, groups, rights, permissions: kept in the target's store, for Wine has none. Nothing enforces them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from .. import store
from .context import Context, Failed, Result, stand_in
from .facts import host_name

KNOWN = {
    "system": ("NT AUTHORITY\\SYSTEM", "S-1-5-18"),
    "localsystem": ("NT AUTHORITY\\SYSTEM", "S-1-5-18"),
    "local service": ("NT AUTHORITY\\LOCAL SERVICE", "S-1-5-19"),
    "localservice": ("NT AUTHORITY\\LOCAL SERVICE", "S-1-5-19"),
    "network service": ("NT AUTHORITY\\NETWORK SERVICE", "S-1-5-20"),
    "networkservice": ("NT AUTHORITY\\NETWORK SERVICE", "S-1-5-20"),
    "everyone": ("Everyone", "S-1-1-0"),
    "authenticated users": ("NT AUTHORITY\\Authenticated Users", "S-1-5-11"),
    "creator owner": ("CREATOR OWNER", "S-1-3-0"),
    "all services": ("NT SERVICE\\ALL SERVICES", "S-1-5-80-0"),
    "administrators": ("BUILTIN\\Administrators", "S-1-5-32-544"),
    "users": ("BUILTIN\\Users", "S-1-5-32-545"),
}
DOMAINS = ("builtin", "nt authority", "nt service", ".")
USER_FIELDS = {
    "fullname": "",
    "description": "",
    "home_directory": "",
    "login_script": "",
    "profile": "",
    "account_disabled": False,
    "password_never_expires": False,
    "user_cannot_change_password": False,
    "password_expired": False,
}
ALL_RIGHTS = re.compile(r"^Se[A-Za-z]+(Right|Privilege)$")
FILE_RIGHTS = (
    "AppendData",
    "ChangePermissions",
    "CreateDirectories",
    "CreateFiles",
    "Delete",
    "DeleteSubdirectoriesAndFiles",
    "ExecuteFile",
    "FullControl",
    "ListDirectory",
    "Modify",
    "Read",
    "ReadAndExecute",
    "ReadAttributes",
    "ReadData",
    "ReadExtendedAttributes",
    "ReadPermissions",
    "Synchronize",
    "TakeOwnership",
    "Traverse",
    "Write",
    "WriteAttributes",
    "WriteData",
    "WriteExtendedAttributes",
)
KEY_RIGHTS = (
    "ChangePermissions",
    "CreateLink",
    "CreateSubkey",
    "Delete",
    "EnumerateSubkeys",
    "ExecuteKey",
    "FullControl",
    "Notify",
    "QueryValues",
    "ReadKey",
    "ReadPermissions",
    "SetValue",
    "TakeOwnership",
    "WriteKey",
)


def account(context: Context, state: store.State, name: str) -> tuple[str, str]:
    """Return an account's whole name and number (SID); raise Failed where there is none."""
    for whole, sid in KNOWN.values():
        if name.upper() == sid:
            return whole, sid
    domain, _, plain = name.rpartition("\\")
    host = host_name(context)
    if domain.lower() not in ("", host.lower(), *DOMAINS):
        raise Failed(f"account_name {name} is not a valid account, cannot get SID")
    if domain.lower() == "nt service" and plain.lower() != "all services":
        # A service's own account: its number is made of its name, and Windows gives it to whatever service it will be.
        digest = hashlib.sha1(plain.upper().encode("utf-16-le")).digest()  # noqa: S324
        parts = "-".join(str(int.from_bytes(digest[at : at + 4], "little")) for at in range(0, 20, 4))
        return f"NT SERVICE\\{plain}", f"S-1-5-80-{parts}"
    if plain.lower() in KNOWN:
        return KNOWN[plain.lower()]
    for table, top in (("users", 500), ("groups", 1500)):
        found = store.entry(state[table], plain)
        if found:
            number = top if found == "Administrator" else top + 501 + sorted(state[table]).index(found)
            prefix = "BUILTIN" if found in store.GROUPS else host
            return f"{prefix}\\{found}", f"S-1-5-21-0-0-0-{number}"
    raise Failed(f"account_name {name} is not a valid account, cannot get SID")


def names(context: Context, state: store.State, members: list[str]) -> list[str]:
    """Return whole names; a name that means nothing fails."""
    return [account(context, state, one)[0] for one in members]


def groups_of(state: store.State, context: Context, user: str) -> list[str]:
    """Return the groups that a user is in."""
    own = f"{host_name(context)}\\{user}".lower()
    return sorted(
        group
        for group, about in state["groups"].items()
        if own in (one.lower() for one in names(context, state, about["members"]))
    )


def told(context: Context, state: store.State, name: str) -> Result:
    """Return a user as win_user tells it."""
    about = {**USER_FIELDS, **state["users"][name]}
    groups = [
        {"name": one, "path": f"WinNT://WORKGROUP/{host_name(context)}/{one}"}
        for one in groups_of(state, context, name)
    ]
    return {
        **{key: value for key, value in about.items() if key != "password"},
        "account_disabled": about["account_disabled"] or about.get("disabled", False),
        "account_locked": False,
        "account_expires": None,
        "groups": groups,
        "name": name,
        "path": f"WinNT://WORKGROUP/{host_name(context)}/{name}",
        "sid": account(context, state, name)[1],
        "state": "present",
    }


@stand_in("ansible.windows.win_user")
def win_user(args: Result, context: Context) -> Result:
    """Make, change or remove an account."""
    if args.get("account_locked"):
        raise Failed("account_locked must be set to 'no' if provided")
    if args.get("account_expires"):
        raise Failed("account_expires: this test target has no clock for accounts")
    with store.changing(context.machine.folder, check=context.check) as state:
        name = store.entry(state["users"], args["name"])
        if args["state"] == "query":
            return {
                "changed": False,
                **(told(context, state, name) if name else {"name": args["name"], "state": "absent"}),
            }
        if args["state"] == "absent":
            if name:
                for about in state["groups"].values():
                    about["members"] = [one for one in about["members"] if one.lower() != name.lower()]
                del state["users"][name]
            return {"changed": bool(name), "name": args["name"], "state": "absent"}
        changed = name is None
        if name is None:
            name = str(args["name"])
            if len(name) > 20 or re.search(r'["/\\\[\]:;|=,+*?<>@]', name):
                raise Failed(f"failed to create user '{name}': the account name is not valid")
            state["users"][name] = {"password": ""}
            if args.get("groups") is None:
                state["groups"]["Users"]["members"].append(name)
        about = state["users"][name]
        wishes = {key: args[key] for key in USER_FIELDS if args.get(key) is not None}
        # The password's sum is kept, so that it can be compared and not read.
        secret, how = args.get("password"), args["update_password"]
        if secret and (changed or how == "always"):
            wishes["password"] = hashlib.sha256(f"{name}:{secret}".encode()).hexdigest()
        for key, value in wishes.items():
            if about.get(key, USER_FIELDS.get(key)) != value:
                about[key], changed = value, True
        changed |= regroup(args, context, state, name)
        return {"changed": changed, **told(context, state, name)}


def regroup(args: Result, context: Context, state: store.State, name: str) -> bool:
    """Bring a user's groups in order; return whether any changed."""
    if args.get("groups") is None:
        return False
    wanted = []
    for group in args["groups"]:
        found = store.entry(state["groups"], group.rpartition("\\")[2])
        if found is None:
            raise Failed(f"group '{group}' not found")
        wanted.append(found)
    now = groups_of(state, context, name)
    action = args["groups_action"]
    add = [one for one in wanted if one not in now] if action != "remove" else []
    drop = [one for one in now if (one in wanted) == (action == "remove")] if action != "add" else []
    for group in add:
        state["groups"][group]["members"].append(name)
    for group in drop:
        members = state["groups"][group]["members"]
        state["groups"][group]["members"] = [one for one in members if one.lower() != name.lower()]
    return bool(add or drop)


@stand_in("ansible.windows.win_group")
def win_group(args: Result, context: Context) -> Result:
    """Make, change or remove a group."""
    with store.changing(context.machine.folder, check=context.check) as state:
        name = store.entry(state["groups"], args["name"])
        if args["state"] == "absent":
            if name:
                del state["groups"][name]
            return {"changed": bool(name)}
        changed = name is None
        if name is None:
            name = str(args["name"])
            state["groups"][name] = {"description": "", "members": []}
        about = state["groups"][name]
        if args.get("description") is not None and about["description"] != args["description"]:
            about["description"], changed = args["description"], True
        asked = args.get("members") or {}
        wish = list(about["members"])
        if asked.get("set") is not None:
            wish = members(context, state, asked["set"])
        wish += [one for one in members(context, state, asked.get("add") or []) if one not in wish]
        wish = [one for one in wish if one not in members(context, state, asked.get("remove") or [])]
        if wish != about["members"]:
            about["members"], changed = wish, True
        return {"changed": changed, "sid": account(context, state, name)[1]}


def members(context: Context, state: store.State, wish: list[str]) -> list[str]:
    """Return members as the store keeps them: local users by their own name, all else whole."""
    host = host_name(context) + "\\"
    return [one.removeprefix(host) for one in names(context, state, wish)]


@stand_in("ansible.windows.win_group_membership")
def win_group_membership(args: Result, context: Context) -> Result:
    """Change who is in a group."""
    with store.changing(context.machine.folder, check=context.check) as state:
        name = store.entry(state["groups"], args["name"])
        if name is None:
            raise Failed(f"Could not find local group {args['name']}")
        wish, now, how = members(context, state, args["members"]), state["groups"][name]["members"], args["state"]
        added = [one for one in wish if one not in now] if how != "absent" else []
        removed = [one for one in now if (one in wish) == (how == "absent")] if how != "present" else []
        after = [one for one in now if one not in removed] + added
        state["groups"][name]["members"] = after
        result: Result = {
            "changed": bool(added or removed),
            "name": args["name"],
            "members": names(context, state, after),
        }
        if how != "absent":
            result["added"] = names(context, state, added)
        if how != "present":
            result["removed"] = names(context, state, removed)
        return result


@stand_in("ansible.windows.win_user_right")
def win_user_right(args: Result, context: Context) -> Result:
    """Change who has a right, such as to log on as a service."""
    right = args["name"]
    if not ALL_RIGHTS.match(right):
        raise Failed(f"the specified right {right} is not a valid right")
    with store.changing(context.machine.folder, check=context.check) as state:
        now = state["rights"].get(right, [])
        wish = names(context, state, args["users"])
        added = [one for one in wish if one not in now] if args["action"] != "remove" else []
        removed = (
            [one for one in now if (one in wish) == (args["action"] == "remove")] if args["action"] != "add" else []
        )
        state["rights"][right] = [one for one in now if one not in removed] + added
        result: Result = {"changed": bool(added or removed), "added": added, "removed": removed}
        if context.diff and result["changed"]:
            before, after = (f"[{right}]\n" + "\n".join(one) for one in (now, state["rights"][right]))
            result["diff"] = {"before": before, "after": after}
        return result


def protected(context: Context, path: str) -> tuple[str, bool]:
    """Return the store's key for what has permissions, and whether it is a file; raise Failed where it is not there."""
    if re.match(r"^HK\w+:", path, re.IGNORECASE):
        if not context.wine.hand("registry", "read", context.key(path))["exists"]:
            raise Failed(f"{path} file or directory does not exist on the host")
        return path.lower(), False
    place = context.path(path)
    if not place.exists():
        raise Failed(f"{path} file or directory does not exist on the host")
    return context.wine.windows(place).lower(), place.is_file()


def rights(text: str, key: str) -> str:
    """Return rights in one order; raise Failed on one that is none."""
    known = {one.lower(): one for one in (KEY_RIGHTS if key.startswith("hk") else FILE_RIGHTS)}
    found = [one.strip() for one in text.split(",")]
    for one in found:
        if one.lower() not in known:
            raise Failed(f'Cannot convert value "{one}" to a right: it is none of {", ".join(known.values())}')
    return ", ".join(sorted(known[one.lower()] for one in found))


@stand_in("ansible.windows.win_acl")
def win_acl(args: Result, context: Context) -> Result:
    """Give or take a permission."""
    with store.changing(context.machine.folder, check=context.check) as state:
        key, is_file = protected(context, args["path"])
        default = "None" if is_file else "ContainerInherit, ObjectInherit"
        row: dict[str, Any] = {
            "user": account(context, state, args["user"])[0],
            "rights": rights(args["rights"], key),
            "type": args["type"],
            "inherit": "None"
            if is_file
            else ", ".join(sorted(one.strip() for one in (args.get("inherit") or default).split(","))),
            "propagation": args["propagation"],
        }
        about = state["acl"].setdefault(key, {"inherited": True, "rows": []})
        there = row in about["rows"]
        if (args["state"] == "present") == there:
            return {"changed": False, "msg": f"the specified rule {'already exists' if there else 'does not exist'}"}
        about["rows"] = [one for one in about["rows"] if one != row] if there else [*about["rows"], row]
        return {"changed": True}


@stand_in("ansible.windows.win_acl_inheritance")
def win_acl_inheritance(args: Result, context: Context) -> Result:
    """Switch the inheritance of permissions."""
    with store.changing(context.machine.folder, check=context.check) as state:
        try:
            key, _ = protected(context, args["path"])
        except Failed:
            raise Failed(f"{args['path']} does not exist") from None
        about = state["acl"].setdefault(key, {"inherited": True, "rows": []})
        now, wish = about["inherited"], args["state"] == "present"
        about["inherited"] = wish
        before, after = ("present" if one else "absent" for one in (now, wish))
        result: Result = {"changed": now != wish}
        if context.diff:
            result["diff"] = {"before": {"state": before}, "after": {"state": after}}
        return result


@stand_in("ansible.windows.win_owner")
def win_owner(args: Result, context: Context) -> Result:
    """Give a file or folder another owner; with ``recurse`` what lies in it too."""
    with store.changing(context.machine.folder, check=context.check) as state:
        try:
            key, _ = protected(context, args["path"])
        except Failed:
            raise Failed(f"{args['path']} file or directory does not exist on the host") from None
        owner = account(context, state, args["user"])[0]
        owners = state.setdefault("owners", {})
        there = owners.get(key) == owner
        owners[key] = owner
        return {"changed": not there}
