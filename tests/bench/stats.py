#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Samples into figures.

    stats.py pauses EVENTS [--first US] [--last US]   one pause (ms) a line, STOP to RESUME
    stats.py median FILE                              the median of a file of numbers
    stats.py head                                     the table's first line
    stats.py row NAME CASE UNIT OURS [PEER] [--limit N --of median|ratio]
    stats.py plot TITLE UNIT FILE.svg LABEL=SAMPLES...

A file of samples holds one number a line.  `row` prints the figure's row on standard output,
    BENCH <name> <case> <ours> <peer> <ratio> <unit> n=<n> min=<ours> p95=<ours> max=<ours>
separated by tabs, medians first, `-` where there is no peer; and a line for people on standard
error, with what the project asks for when there is a limit.  `plot` draws all samples with
gnuplot, and does nothing where that is not installed.
"""
import argparse
import re
import shutil
import statistics
import subprocess
import sys

EVENT = re.compile(r"^event (STOP|RESUME) at (\d+)\.(\d+) ")


def numbers(path):
    with open(path) as file:
        return [float(line) for line in file if line.strip()]


def pauses(args):
    """A pause belongs to the window when it begins in it; a STOP without RESUME is none."""
    stop = None
    with open(args.file) as file:
        for line in file:
            found = EVENT.match(line)
            if not found:
                continue
            now = int(found[2]) * 1000000 + int(found[3])
            if found[1] == "STOP":
                stop = now
            elif stop is not None:
                if args.first <= stop <= args.last:
                    print((now - stop) / 1000)
                stop = None


def median(args):
    print(round(statistics.median(numbers(args.file)), 3))


def show(value):
    return "-" if value is None else f"{value:.2f}"


def row(args):
    ours = sorted(numbers(args.ours))
    if not ours:
        sys.exit(f"stats.py: no samples in {args.ours}")
    middle = statistics.median(ours)
    peer = statistics.median(numbers(args.peer)) if args.peer else None
    ratio = middle / peer if peer else None
    p95 = ours[min(len(ours) - 1, int(0.95 * len(ours)))]
    fields = ["BENCH", args.name, args.case, show(middle), show(peer), show(ratio), args.unit,
              f"n={len(ours)}", f"min={ours[0]:.2f}", f"p95={p95:.2f}", f"max={ours[-1]:.2f}"]
    print("\t".join(fields), flush=True)
    asked = ""
    if args.limit is not None:
        value = ratio if args.of == "ratio" else middle
        asked = f"asked: {args.of} <= {args.limit:g}: {'holds' if value <= args.limit else 'DOES NOT HOLD'}"
    print(f"  {args.case:24s} {show(middle):>9s} {show(peer):>9s} {show(ratio):>7s} {args.unit:3s} "
          f"{len(ours):4d} {ours[0]:9.2f} {p95:9.2f} {ours[-1]:9.2f}  {asked}", file=sys.stderr)


def head(_args):
    print(f"  {'case':24s} {'ours':>9s} {'peer':>9s} {'ratio':>7s} {'':3s} {'n':>4s} {'min':>9s} "
          f"{'p95':>9s} {'max':>9s}", file=sys.stderr)


def plot(args):
    if not shutil.which("gnuplot"):
        return
    script = [f"set terminal svg size 800,400 background 'white'\nset output '{args.svg}'",
              f"set title '{args.title}'\nset ylabel '{args.unit}'\nset yrange [0:*]",
              f"set xrange [0:{len(args.series) + 1}]\nset grid ytics\nunset key",
              "set style fill solid 0.2\nset style boxplot outliers pointtype 7"]
    names, parts = [], []
    for place, text in enumerate(args.series, 1):
        label, path = text.split("=", 1)
        names.append(f"'{label}' {place}")
        parts.append(f"'{path}' using ({place}.0):1 with boxplot")
    script.append(f"set xtics ({', '.join(names)})")
    script.append("plot " + ", ".join(parts))
    subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, check=True)
    print(f"  picture: {args.svg}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("pauses")
    sub.add_argument("file")
    sub.add_argument("--first", type=int, default=0, help="realtime us")
    sub.add_argument("--last", type=int, default=1 << 62, help="realtime us")
    sub = commands.add_parser("median")
    sub.add_argument("file")
    sub = commands.add_parser("row")
    for name in ("name", "case", "unit", "ours"):
        sub.add_argument(name)
    sub.add_argument("peer", nargs="?")
    sub.add_argument("--limit", type=float)
    sub.add_argument("--of", choices=("median", "ratio"), default="median")
    commands.add_parser("head")
    sub = commands.add_parser("plot")
    for name in ("title", "unit", "svg"):
        sub.add_argument(name)
    sub.add_argument("series", nargs="+")
    args = parser.parse_args()
    {"pauses": pauses, "median": median, "row": row, "head": head, "plot": plot}[args.command](args)


if __name__ == "__main__":
    main()
