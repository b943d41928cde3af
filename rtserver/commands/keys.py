"""``rtserver keys``: who may reach a server from another machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from rtserver.commands.common import Add, Arguments, add_json, print_json


def register(add: Add) -> None:
    """Its arguments."""
    top = add("keys", keys, "make and list the keys that let clients on other machines in")
    actions = top.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser("new", help="make a key pair: for the server, or for a client", allow_abbrev=False)
    new.add_argument("owner", metavar="NAME", help="whose keys they are, for example server or stage-left")
    new.add_argument("--allow", action="store_true", help="put it on the allow-list, too")
    allow = actions.add_parser("allow", help="put a client's public key on the allow-list", allow_abbrev=False)
    allow.add_argument("file", type=Path, metavar="NAME.key")
    show = actions.add_parser("show", help="list the keys and who is allowed; never a secret", allow_abbrev=False)
    add_json(show)
    for action in (new, allow, show):
        _add_folder(action)


def _add_folder(action: argparse.ArgumentParser) -> None:
    action.add_argument("--folder", type=Path, metavar="DIR", help="where keys are kept (default: ~/.config/rtserver/keys)")


def keys(arguments: Arguments) -> int:
    """``rtserver keys``"""
    from rtserver.wire import security

    folder: Path = arguments.folder or security.default_folder()
    allowed = folder / "allow"
    if arguments.action == "new":
        public, secret = security.new_keys(folder, arguments.owner)
        print(f"{public}  the public key, for the other side")
        print(f"{secret}  the secret key, for {arguments.owner} alone")
        if arguments.allow:
            print(f"{security.allow(allowed, public)}  may connect")
    elif arguments.action == "allow":
        print(f"{security.allow(allowed, arguments.file)}  may connect")
    else:
        found = [
            {"name": file.stem, "public_key": security.read_public(file).decode(), "allowed": file.parent == allowed, "file": str(file)}
            for file in sorted((*folder.glob(f"*{security.PUBLIC}"), *allowed.glob(f"*{security.PUBLIC}")))
        ]
        if arguments.json:
            print_json(found)
        else:
            for key in found:
                print(f"{key['public_key']}  {'allowed' if key['allowed'] else '       '}  {key['file']}")
    return 0
