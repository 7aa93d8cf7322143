"""``vsock-harness images``: what VMs are made of, and what that is made of."""

from __future__ import annotations

import argparse
import datetime
import json
from typing import TYPE_CHECKING

import msgspec

from harness.cli import imagetable, prune
from harness.cli.imagetable import Row, size
from harness.cli.parsing import Parser, guess
from harness.host.depot import Limits
from harness.host.paths import cache_root
from harness.image import recipe
from harness.image.store import Image, Store
from harness.model.errors import UsageError
from harness.report.progress import Lines

if TYPE_CHECKING:
    from harness.cli.parsing import Subparsers

_EXAMPLES = """\
An image is what a recipe (guest-images/NAME/recipe.toml) makes of Debian packages. It is kept in
$XDG_CACHE_HOME/vsock-harness under an id that changes with the recipe, and is built when first needed.

examples:
  vsock-harness images list                 what there is, and what today's recipes ask for
  vsock-harness images build                all that are missing
  vsock-harness images build --force lab    again, with what Debian's mirror has today
  vsock-harness images show pod             packages and versions
  vsock-harness images verify               is each still as it was built?
  vsock-harness images prune --dry-run      what would be removed
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``images`` to the command's subparsers."""
    parser = subparsers.add_parser(
        "images",
        description="Lists, builds, checks and removes images.",
        epilog=_EXAMPLES,
    )
    parser.set_defaults(main=listed, json=False)
    actions = parser.add_subparsers(
        metavar="ACTION", title="actions (list, if none is given)", parser_class=Parser
    )
    one = actions.add_parser(
        "list", help="all images: id, whether a recipe asks for it today, size, age, path"
    )
    one.add_argument("--json", action="store_true", help="print JSON")
    one.set_defaults(main=listed)
    one = actions.add_parser("build", help="build what is missing")
    one.add_argument(
        "names", nargs="*", metavar="NAME", help="recipes (default: all but those built on demand)"
    )
    one.add_argument("--force", action="store_true", help="build even what is there")
    one.set_defaults(main=build)
    one = actions.add_parser("verify", help="compare images with what was built; exit code 1 if one differs")
    one.add_argument("names", nargs="*", metavar="NAME", help="names or ids (default: all images)")
    one.set_defaults(main=verify)
    one = actions.add_parser(
        "prune",
        help="remove images that no recipe asks for today, what ended builds left, and saved labs and pods "
        "that were not used for two weeks",
    )
    one.add_argument(
        "--all", action="store_true", help="also those that a recipe asks for, and all that is saved"
    )
    one.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    one.set_defaults(main=pruned)
    one = actions.add_parser("show", help="packages and versions of an image")
    one.add_argument("name", metavar="NAME", help="a name (today's image) or an id")
    one.add_argument("--json", action="store_true", help="print JSON, with the hash of each file")
    one.set_defaults(main=show)


def listed(args: argparse.Namespace) -> int:
    """Print all images, and the recipes that have none."""
    rows = _rows(Store(cache_root()))
    if args.json:
        print(json.dumps([row.as_data() for row in rows], indent=2))
    else:
        print(imagetable.table(rows))
    return 0


def _rows(store: Store) -> list[Row]:
    found = [Row.of(image, current=store.current(image)) for image in store.images()]
    there = {row.name for row in found if row.state == "current"}
    found += [Row.missing(name) for name in recipe.names() if name not in there]
    order = {"current": 0, "missing": 1, "on-demand": 1, "old": 2}
    return sorted(found, key=lambda row: (row.name, order[row.state]))


def build(args: argparse.Namespace) -> int:
    """Build what is missing, with progress on stderr, and say what there is then.

    :raise UsageError: for an unknown name, before anything is built.
    :raise HostUnfit, InfrastructureError: see `Store.get`.
    """
    names = args.names or recipe.usual()
    for name in names:
        recipe.load(name)
    store, progress = Store(cache_root()), Lines()
    for name in names:
        before = None if args.force else store.find(name)
        image = before or store.get(name, progress, force=args.force)
        made = "there already" if before else f"built in {image.manifest.seconds:.0f} s"
        facts = f"{size(image.manifest.bytes)}, {len(image.manifest.packages)} packages"
        print(f"{name} {image.id}: {made}, {facts}: {image.path}", flush=True)
    return 0


def verify(args: argparse.Namespace) -> int:
    """Hash every file again; 1 if an image is not as it was built.

    :raise UsageError: when there is no such image.
    """
    store = Store(cache_root())
    images = store.images()
    for name in args.names:
        _named(name, images)
    wanted = [image for image in images if not args.names or {image.name, image.id} & set(args.names)]
    if not wanted:
        raise UsageError("there are no images to verify", hint="vsock-harness images build")
    code = 0
    for image in wanted:
        differing = store.verify(image)
        print(f"{image.name} {image.id}: {'differs' if differing else 'as it was built'}", flush=True)
        for line in differing:
            print(f"  {line}")
        if differing:
            code = 1
            print(f"  mend: {_mend(store, image)}")
    return code


def _mend(store: Store, image: Image) -> str:
    if store.current(image):
        return f"vsock-harness images build --force {image.name}"
    return "vsock-harness images prune (no recipe asks for it today)"


def pruned(args: argparse.Namespace) -> int:
    """Remove what nobody asks for, and say how much that was.

    :raise InfrastructureError: when something can't be removed.
    """
    root = cache_root()
    store = Store(root)
    total = count = 0
    would = "would remove" if args.dry_run else "removed"
    for image in store.images():
        if store.current(image) and not args.all:
            continue
        user = prune.user(image.path)
        if user:
            print(f"kept {image.name} {image.id}: process {user} runs from it")
            continue
        taken = image.manifest.bytes
        if not args.dry_run:
            prune.remove(store, image)
        print(f"{would} {image.name} {image.id}: {size(taken)}", flush=True)
        total, count = total + taken, count + 1
    for left in prune.leftovers(root):
        taken = left.bytes
        if not args.dry_run:
            left.remove()
        print(f"{would} {left.path.name}, which an ended build left: {size(taken)}", flush=True)
        total, count = total + taken, count + 1
    for what, depot in prune.states(root):
        limits = Limits(bytes=0) if args.all else None
        for kept in depot.prune(limits, dry_run=args.dry_run):
            print(f"{would} {what} {kept.key}: {size(kept.bytes)}", flush=True)
            total, count = total + kept.bytes, count + 1
    print(f"{would} {size(total)} in all" if count else "nothing to remove")
    return 0


def show(args: argparse.Namespace) -> int:
    """Print what one image is and is made of.

    :raise UsageError: when there is no such image.
    """
    store = Store(cache_root())
    image = _named(args.name, sorted(store.images(), key=store.current))
    manifest = image.manifest
    row = Row.of(image, current=store.current(image))
    if args.json:
        print(
            json.dumps(
                {**msgspec.to_builtins(manifest), "state": row.state, "path": str(image.path)}, indent=2
            )
        )
        return 0
    built = datetime.datetime.fromisoformat(manifest.built).astimezone().strftime("%Y-%m-%d %H:%M")
    facts = {
        "name": manifest.name,
        "id": f"{manifest.id} ({row.state})",
        "kind": manifest.kind,
        "suite": f"Debian {manifest.suite}",
        "kernel": manifest.kernel or "none",
        "built": f"{built} ({row.age} ago) in {manifest.seconds:.0f} s",
        "size": f"{size(manifest.bytes)} in {len(manifest.files)} files",
        "path": str(image.path),
        "packages": str(len(manifest.packages)),
    }
    for key, value in facts.items():
        print(f"{key:<10}{value}")
    widest = max((len(package.name) for package in manifest.packages), default=0) + 2
    for package in manifest.packages:
        print(f"  {package.name:<{widest}}{package.version}")
    return 0


def _named(word: str, images: list[Image]) -> Image:
    """The last of the images with this name or id.

    :raise UsageError: when there is none.
    """
    for image in reversed(images):
        if word in (image.name, image.id):
            return image
    if word in recipe.names():
        raise UsageError(f"image {word} is not built", hint=f"vsock-harness images build {word}")
    known = {image.name for image in images} | set(recipe.names())
    raise UsageError(f"no image is called {word!r}{guess(word, known)}", hint="vsock-harness images list")
