"""`s1pro corpus view`: a gallery of a corpus folder in one HTML file."""

from __future__ import annotations

import argparse

from s1pro.cli.arguments import Commands, add_command, page_file, positive
from s1pro.cli.corpus_papers import add_folder, existing, report


def add(kinds: Commands) -> None:
    parser = add_command(
        kinds,
        "view",
        run,
        summary="a gallery in one HTML file: pages with boxes, crops, captions, checks, copies, status",
        description="Write a gallery of a corpus folder, with counts that reconcile. The file needs no other file.",
    )
    add_folder(parser)
    parser.add_argument("--output", type=page_file, metavar="FILE", help="where it goes; FOLDER/view.html by default")
    parser.add_argument("--documents", type=positive, default=12, metavar="N", help="documents to show")
    parser.add_argument("--pages", type=positive, default=6, metavar="N", help="pages to show of each")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")


def run(args: argparse.Namespace) -> int:
    from s1pro.corpus.view.page import GallerySettings, write_gallery

    folder = existing(args.folder)
    path = args.output or folder.root / "view.html"
    status = write_gallery(folder, path, GallerySettings(documents=args.documents, pages=args.pages))
    code = report(status, as_json=args.json)
    if not args.json:
        print(f"written to {path}")
    return code
