"""The agent's updater behind the command line that the public TUF client conformance suite drives.

From a checkout of github.com/theupdateframework/tuf-conformance, which CI does not have: what it looks at, on a device
with a repository of ours, stands as rows in ``tests/unit/release/test_attacks.py`` too ::

    make conformance SUITE=../tuf-conformance

It uses what an update of the agent uses: python-tuf's rules with the installed root as anchor, and our own fetcher and
resumable download (:mod:`fieldwatch_agent.update.source`).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from urllib.parse import quote

import urllib3
from fieldwatch_agent.update.source import Limits, WebSource
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater

INSTALLED = "installed-root"
"""What the installer brought, beside the metadata that was fetched."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url", default="")
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("init").add_argument("root", type=Path)
    steps.add_parser("refresh")
    steps.add_parser("download")
    args = parser.parse_args()
    installed = args.metadata_dir.with_name(args.metadata_dir.name + "-" + INSTALLED)
    if args.step == "init":
        installed.write_bytes(args.root.read_bytes())
        (args.metadata_dir / "root.json").write_bytes(args.root.read_bytes())
        return 0
    source = WebSource(args.metadata_url, Limits())
    try:
        updater = Updater(str(args.metadata_dir), args.metadata_url, fetcher=source, bootstrap=installed.read_bytes())
        updater.refresh()
        source.base = args.target_base_url.rstrip("/").removesuffix("targets")
        for name in args.target_name:
            info = updater.get_targetinfo(name)
            if info is None:
                print(f"{name} is not found", file=sys.stderr)
                return 1
            path = args.target_dir / quote(name, "")
            if not path.exists() or info.hashes["sha256"] != hashlib.sha256(path.read_bytes()).hexdigest():
                part = args.metadata_dir.with_name("spool")
                source.download(info, part)
                part.replace(path)
    except (RepositoryError, DownloadError, urllib3.exceptions.HTTPError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
