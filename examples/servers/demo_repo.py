"""Makes the repository that the examples work on.

    python examples/servers/demo_repo.py DIR

DIR/acme/shop becomes a git repository with a few files and three issues, DIR/context.json the context of a workflow
that works on it. What is there already stays as it is, so running it again changes nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from repository import IDENTITY, git
from tracker import Tracker

FILES = {
    "README.md": "# shop\n\nThe shop of ACME: a cart, prices, vouchers.\n",
    "shop/__init__.py": "",
    "shop/cart.py": '''"""The cart: what the customer wants to buy."""


def total(prices: list[int], vouchers: list[int]) -> int:
    """What is to pay, in cents."""
    return sum(prices) - sum(vouchers)
''',
}

ISSUES = [
    (
        "Total is negative when vouchers exceed the price",
        "A cart of 5.00 with two vouchers of 3.00 shows -1.00.\n\nThe total must never go below 0.00.",
        ["bug"],
    ),
    ("Show prices with a thousands separator", "1234567 cents should read 12,345.67.", ["enhancement"]),
    ("README does not say how to run the tests", "A newcomer cannot find out.", ["documentation"]),
]


def make(folder: Path) -> Path:
    """Makes the repository and the context file below `folder`; returns the path of the context file."""
    path = folder.resolve() / "acme" / "shop"
    if not (path / ".git").is_dir():
        _initialise(path)
    tracker = Tracker(folder, "acme", "shop")
    for title, body, labels in ISSUES:
        tracker.create_issue(title, body, labels)
    context = folder.resolve() / "context.json"
    repo = {"owner": "acme", "name": "shop", "default_branch": "main", "path": str(path)}
    context.write_text(json.dumps({"repo": repo}, indent=2) + "\n")
    return context


def _initialise(path: Path) -> None:
    for name, content in FILES.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    name, _, address = IDENTITY.partition(" <")
    author = ("-c", f"user.name={name}", "-c", f"user.email={address.rstrip('>')}")
    git("init", "--quiet", "--initial-branch=main", "--template=", str(path))
    git("-C", str(path), "add", "--all")
    git("-C", str(path), *author, "commit", "--quiet", "--message=Add the cart")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the git repository that the examples work on")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where; it is created if it is missing")
    print(make(parser.parse_args().folder))


if __name__ == "__main__":
    main()
