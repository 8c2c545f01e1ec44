"""Command line of the generator: `python -m restresponse.phantom OUT`."""

from __future__ import annotations

import restresponse.adapter  # noqa: F401  one BLAS thread, before numpy is loaded: the images must not depend on the cores

import argparse  # isort: skip
import sys  # isort: skip
from pathlib import Path  # isort: skip


def main(arguments: list[str] | None = None) -> int:
    """Make the cohort that the arguments ask for; returns the exit status."""
    from restresponse.errors import InputError
    from restresponse.phantom.cohort import make_cohort
    from restresponse.phantom.settings import CohortSettings

    given = vars(_parser(CohortSettings()).parse_args(arguments))
    bids, truth, jobs = given.pop("bids"), given.pop("truth"), given.pop("jobs")
    sizes = given.pop("bold_voxel_size")
    try:
        settings = CohortSettings(bold_voxel_size=tuple(sizes * 3 if len(sizes) == 1 else sizes), **given)
        made = make_cohort(bids, settings, truth, jobs)
    except InputError as error:
        print(f"restresponse.phantom: {error}", file=sys.stderr)
        return 1
    what = f"{settings.participants} participants, {settings.responders} responders"
    print(
        f"{bids}: {what}, made"
        if made
        else f"{bids}: {what}, already there and made with the same arguments; nothing done"
    )
    return 0


def _parser(default) -> argparse.ArgumentParser:
    from restresponse.phantom.settings import FIELD_MAPS

    parser = argparse.ArgumentParser(
        prog="python -m restresponse.phantom",
        description="Make a synthetic BIDS dataset of resting-state scans of two outcome groups, and the truth of it beside it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("bids", metavar="OUT", type=Path, help="folder of the BIDS dataset; must be empty, or hold this very cohort")
    add("--truth", type=Path, default=None, help="folder of the truth, outside OUT (default: OUT_truth)")
    add("--participants", type=int, default=default.participants, help="number of participants")
    add("--responders", type=int, default=default.responders, help="how many of them are responders")
    add("--volumes", type=int, default=default.volumes, help="volumes of a BOLD series")
    add("--repetition-time", type=float, default=default.repetition_time, help="s")
    add(
        "--bold-voxel-size",
        type=float,
        nargs="+",
        default=list(default.bold_voxel_size),
        help="one number or three, mm",
    )
    add("--t1w-voxel-size", type=float, default=default.t1w_voxel_size, help="mm")
    add(
        "--effect",
        type=float,
        default=default.effect,
        help="groups' ratio minus 1 in the two networks that differ; 0: no effect",
    )
    add(
        "--effect-on",
        choices=("amplitude", "map"),
        default=default.effect_on,
        help="what differs: a network's amplitude or its map",
    )
    add("--motion", type=float, default=default.motion, help="factor on the head motion; 0: none")
    add("--noise", type=float, default=default.noise, help="factor on thermal and physiological noise; 0: none")
    add(
        "--distortion",
        type=float,
        default=default.distortion,
        help="largest displacement in the BOLD images, mm; 0: none",
    )
    add("--field-map", choices=FIELD_MAPS, default=default.field_map, help="what fmap/ holds")
    add(
        "--truth-voxel-size",
        type=float,
        default=default.truth_voxel_size,
        help="mm, of the planted maps in the truth folder",
    )
    add("--seed", type=int, default=default.seed, help="of every random number")
    add("--jobs", type=int, default=1, help="participants made at once; the images do not depend on it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
