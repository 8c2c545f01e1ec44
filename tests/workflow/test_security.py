"""What a dataset or a config holds reaches no shell, no path outside the results and no page as markup, and runs no code."""

import ast
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from restresponse.config import validate
from restresponse.dataset import read_dataset, write_tables
from restresponse.errors import DamagedFile, InputError
from restresponse.files import read_array, read_table
from restresponse.quality.inclusion import decide_inclusion
from restresponse.quality.pages.cohort import write_cohort_pages
from running import ROOT, jobs_of, run_snakemake, write_bids_tree

HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "a b",
    'it\'s "quoted"',
    "../../outside",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{scan} {0} {{x}}",
    "two\nlines",
    "\x1b[2Jcleared",
    "-rf",
    "javascript:alert(1)",
]
SHELL_AND_MARKUP = "$(touch pwned) `touch pwned`; touch pwned & 'q' \"q\" {scan} {0} <script>alert(1)</script>"
SOURCES = sorted((ROOT / "workflow").rglob("*.py")) + sorted((ROOT / "workflow").rglob("*.smk"))


class Live(HTMLParser):
    """What of a page would run, or load something, or leave the folder."""

    def __init__(self, page):
        super().__init__()
        self.scripts, self.handlers, self.loaded, self.links, self.text = 0, [], [], [], ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.scripts += tag in ("script", "iframe", "object", "embed")
        self.handlers += [name for name, _ in attributes if name.startswith("on")]
        self.loaded += [value for name, value in attributes if name == "src" or (tag == "image" and name == "href")]
        self.links += [value for name, value in attributes if tag == "a" and name == "href"]

    def handle_data(self, data):
        self.text += data


def settings_of(**changes):
    return validate({}, ROOT)["dataset"] | changes


def problems_of(bids, **changes):
    with pytest.raises(InputError) as raised:
        read_dataset(bids, settings_of(**changes))
    return str(raised.value)


# ---------------------------------------------------------------- names in the dataset


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_participant_is_refused_in_one_line_and_nothing_runs(tmp_path, monkeypatch, name):
    """As participant_id (where a table can hold it) and as the name of a folder (where a file system can)."""
    monkeypatch.chdir(tmp_path)
    bids = write_bids_tree(tmp_path / "bids", participants=2)
    table = bids / "participants.tsv"
    quoted = '"' + f"sub-{name}".replace('"', '""') + '"'
    table.write_text(table.read_text() + f"{quoted}\t50\tM\t8\t2\n")
    problem = problems_of(bids)
    assert "participant_id sub-" in problem and "expected sub- and letters or digits" in problem
    assert all(line.isprintable() for line in problem.splitlines())
    table.write_text("\n".join(table.read_text().splitlines()[:3]) + "\n")
    if "/" not in name:
        (bids / f"sub-{name}").mkdir()
        problem = problems_of(bids)
        assert "a folder name that BIDS does not allow" in problem
        assert len(problem.splitlines()) == 2 and all(line.isprintable() for line in problem.splitlines())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bids"]


@pytest.mark.parametrize("name", [name for name in HOSTILE if "/" not in name])
def test_a_hostile_file_name_is_no_scan(tmp_path, name):
    bids = write_bids_tree(tmp_path / "bids", participants=2)
    scan = bids / "sub-01/func/sub-01_task-rest_bold.nii.gz"
    scan.rename(scan.with_name(f"sub-01_task-rest_run-{name}_bold.nii.gz"))
    problem = problems_of(bids)
    assert "a name that BIDS does not allow" in problem and all(line.isprintable() for line in problem.splitlines())


def test_a_dry_run_and_its_jobs_take_a_dataset_whose_folder_and_table_hold_everything(tmp_path):
    """The names of both folders are the user's; columns and cells are free text. Two real jobs read them."""
    folder = f"bids {SHELL_AND_MARKUP.split('{')[0]}"
    study = tmp_path / f"study {folder}"
    bids = write_bids_tree(study / folder)
    table = bids / "participants.tsv"
    header, *rows = table.read_text().splitlines()
    cells = "\t".join(text.replace("\n", " ").replace('"', "'") for text in HOSTILE)
    columns = "\t".join(f"{SHELL_AND_MARKUP.replace(chr(34), '')} {number}" for number in range(len(HOSTILE)))
    table.write_text("\n".join([f"{header}\t{columns}", *(f"{row}\t{cells}" for row in rows)]) + "\n")
    config = study / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "dataset": {"bids_dir": folder},
                "folds": {"n_folds": 2},
                "functional": {"voxel_size": 4},
                "report": {"title": SHELL_AND_MARKUP},
                "metrics": {"characteristics": [SHELL_AND_MARKUP]},
                "classifier": {"inner_folds": 2},
            }
        )
    )
    plan = run_snakemake(study, "--dry-run", config=config).stdout
    assert {job["rule"] for job in jobs_of(plan)} >= {"functional_preprocess", "report_page"}
    made = ["results/dataset/participants.tsv", "results/dataset/labels.tsv"]
    run_snakemake(study, *made, config=config)
    kept = read_table(study / made[0])
    assert f"{SHELL_AND_MARKUP.replace(chr(34), '')} 0" in kept.columns and len(kept) == len(rows)
    assert not list(tmp_path.rglob("pwned"))
    assert [path.name for path in tmp_path.iterdir()] == [study.name]
    assert sorted(path.name for path in study.iterdir() if path.name[0] != ".") == [folder, "config.yaml", "results"]


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"RepetitionTime": ' + b"9" * 5000 + b"}",
        b'{"RepetitionTime": 1e999}',
        b'{"RepetitionTime": NaN}',
        b'{"RepetitionTime": [2.6]}',
        b'{"RepetitionTime": "$(touch pwned)"}',
        b'{"RepetitionTime": true}',
        b"\xff\xfe\x00",
        b"\x80\x04\x95K\x8c\x08builtins",
        b"null",
        json.dumps({"RepetitionTime": "x" * 1_000_000}).encode(),
    ],
    ids=range(12),
)
def test_a_sidecar_of_any_content_ends_in_a_sentence(tmp_path, content):
    bids = write_bids_tree(tmp_path / "bids", participants=2)
    (bids / "sub-01/func/sub-01_task-rest_bold.json").write_bytes(content)
    problem = problems_of(bids)
    assert "sub-01" in problem and len(problem) < 8000 and "Traceback" not in problem
    (bids / "dataset_description.json").write_bytes(content)  # of which nothing but DatasetType is read
    assert "sub-01" in problems_of(bids)


def test_files_too_large_to_be_what_they_should_be_end_in_a_sentence(tmp_path):
    bids = write_bids_tree(tmp_path / "bids", participants=2)
    for name in ("sub-01/func/sub-01_task-rest_bold.json", "participants.tsv"):
        with (bids / name).open("wb") as stream:
            stream.truncate(150_000_000)  # holes, no blocks
    problem = problems_of(bids)
    assert "sub-01_task-rest_bold.json: 150 MB; expected a JSON file of at most 20 MB" in problem
    assert "participants.tsv: 150 MB; expected a table of at most 100 MB" in problem


def test_a_cell_without_an_end_and_an_image_that_promises_more_than_it_can_hold_end_in_a_sentence(tmp_path):
    bids = write_bids_tree(tmp_path / "bids", participants=2)
    table = bids / "participants.tsv"
    table.write_text(table.read_text() + '"sub-03\t' + "x" * 200_000)
    assert "no table that can be read" in problems_of(bids)
    write_bids_tree(tmp_path / "other", participants=2)
    import nibabel as nib

    path = tmp_path / "other/sub-01/func/sub-01_task-rest_bold.nii.gz"
    image = nib.load(path)
    image.header["dim"][1:5] = 30_000
    header = image.header.binaryblock
    import gzip

    path.write_bytes(gzip.compress(header + bytes(4096)))
    assert "which cannot hold the" in problems_of(tmp_path / "other")


# ---------------------------------------------------------------- the pages


def test_pages_show_hostile_text_as_text(tmp_path):
    """What may be free text on the way to a page: reasons, words of programs, the title; columns are in test_report.py."""
    from restresponse.files import write_json
    from restresponse.quality.group_mask import write_group_mask

    write_group_mask(tmp_path / "mask.nii.gz", 6)
    words = " ".join(text.replace("\n", " ").replace("\x1b", "") for text in HOSTILE)
    numbers = dict.fromkeys(("mean_framewise_displacement", "coverage", "overlap", "dof_residual", "tsnr"), 0.9)
    for number in range(6):
        content = {"scan": f"sub-0{number}_task-rest", "participant_id": f"sub-0{number}", "failed": None, **numbers}
        write_json(tmp_path / f"sub-0{number}.json", content | ({"failed": words} if number == 0 else {}))
    paths = sorted(tmp_path.glob("*.json"))
    measures = {f"{path.stem}_task-rest": path for path in paths}
    made = {scan: f"pages/batch-01/{scan}.html" for scan in measures}
    settings = validate({}, ROOT)["quality"]
    decide_inclusion(paths, tmp_path / "inclusion.tsv", settings=settings, minimum_dof=0)
    for identifiers in (False, True):
        write_cohort_pages(
            measures,
            made,
            *(tmp_path / name for name in ("inclusion.tsv", "index.html", "scans.html")),
            batches=[],
            group_mask=tmp_path / "mask.nii.gz",
            settings=settings,
            minimum_dof=0,
            report={"title": words, "identifiers": identifiers},
        )
        for name in ("index.html", "scans.html"):
            live = Live(tmp_path / name)
            assert (live.scripts, live.handlers, live.loaded) == (1, [], [])  # its own, that sorts the table
            assert all(
                re.fullmatch(r"\.\./report/index\.html|pages/batch-01/sub-0\d_task-rest\.html", link)
                for link in live.links
            )
            assert "<script>alert(1)</script>" in live.text and "<img src=x onerror=alert(1)>" in live.text


# ---------------------------------------------------------------- the config


@pytest.mark.parametrize("name", [*HOSTILE, "..", "a/b", "a.b", "asc\n", "A", "a" * 41, ""])
@pytest.mark.parametrize("kind", ["protocols", "arms", "models"])
def test_a_name_that_becomes_a_folder_is_a_plain_word(kind, name):
    entry = validate({}, ROOT)["classifier"][kind]
    with pytest.raises(InputError, match="this name cannot be used"):
        validate({"classifier": {kind: {**entry, name: next(iter(entry.values()))}}}, ROOT)


@pytest.mark.parametrize("key", ["task", "session", "space"])
@pytest.mark.parametrize("text", [*HOSTILE, "rest\n", "MNI152\n"])
def test_labels_in_the_config_are_letters_and_digits(key, text):
    with pytest.raises(InputError, match=f"dataset.{key}: found"):
        validate({"dataset": {key: text, "derivatives": "x"}}, ROOT)


@pytest.mark.parametrize("key", ["dataset.bids_dir", "dataset.derivatives", "components.template"])
@pytest.mark.parametrize("path", ["/data/<script>", "/data/{scan}", "/data/}"])
def test_a_path_that_snakemake_would_fill_in_is_refused(key, path):
    section, name = key.split(".")
    with pytest.raises(InputError, match=rf"{key}: found '{re.escape(path)}'.* rename the folder"):
        validate({section: {name: path}}, ROOT)


@pytest.mark.parametrize(("kind", "name"), [("protocols", "kernels"), ("protocols", "volumes"), ("models", "constant")])
def test_names_that_the_workflow_uses_itself_are_taken(kind, name):
    entry = validate({}, ROOT)["classifier"][kind]
    with pytest.raises(InputError, match=f"classifier.{kind}.{name}: this name is the workflow's own"):
        validate({"classifier": {kind: {**entry, name: next(iter(entry.values()))}}}, ROOT)


def test_a_config_with_yaml_tags_is_refused_and_runs_nothing(tmp_path):
    write_bids_tree(tmp_path / "bids", participants=2)
    config = tmp_path / "config.yaml"
    config.write_text(f"seed: !!python/object/apply:os.system ['touch {tmp_path}/pwned']\n")
    assert run_snakemake(tmp_path, "--dry-run", config=config, check=False).returncode != 0
    assert not (tmp_path / "pwned").exists()


# ---------------------------------------------------------------- the code


def calls_of(tree):
    """Every call as (name with dots, keyword arguments)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.suffix == ".py"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_code_is_made_of_data(path):
    for name, words in calls_of(ast.parse(path.read_text())):
        last = name.rsplit(".", 1)[-1]
        assert name not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), name
        assert last not in ("read_pickle", "to_pickle", "getoutput", "getstatusoutput", "enable_unsafe_deserialization")
        assert "shell" not in words, name
        if name in ("np.load", "numpy.load", "np.save"):
            assert words.get("allow_pickle") == "False", name
        if last == "load_model":
            assert words.get("safe_mode") == "True", name
        if name.startswith("yaml."):
            assert last in ("safe_load", "safe_dump"), name


def test_rules_run_scripts_and_no_shell_commands():
    for path in (path for path in SOURCES if path.suffix == ".smk"):
        assert not re.search(
            r"^\s*(shell|run|wrapper|notebook|template_engine):|\bshell\(|\beval\(", path.read_text(), re.M
        )


class Payload:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_an_array_that_would_run_code_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([Payload(tmp_path / "pwned")], dtype=object), allow_pickle=True)
    for memory_map in (True, False):
        with pytest.raises(DamagedFile, match=r"Object arrays cannot be loaded|Python objects in dtype"):
            read_array(tmp_path / "a.npy", memory_map=memory_map)
    assert not (tmp_path / "pwned").exists()


def test_links_of_a_dataset_are_read_and_never_written_through(tmp_path, monkeypatch):
    """A dataset as datalad keeps it: read-only files elsewhere; and a results folder in which someone left links to them."""
    monkeypatch.chdir(tmp_path)
    bids, annex = write_bids_tree(tmp_path / "bids", participants=2), tmp_path / "annex"
    annex.mkdir()
    for path in [path for path in bids.rglob("*") if path.is_file()]:
        stored = annex / path.relative_to(bids).as_posix().replace("/", "_")
        path.rename(stored)
        path.symlink_to(stored)
    before = {path: path.read_bytes() for path in annex.iterdir()}
    scans, participants = (tmp_path / "results/dataset" / name for name in ("scans.tsv", "participants.tsv"))
    participants.parent.mkdir(parents=True)
    participants.symlink_to(annex / "participants.tsv")
    write_tables(bids, settings_of(), scans, participants)
    assert not participants.is_symlink() and len(read_table(scans)) == 2
    assert {path: path.read_bytes() for path in annex.iterdir()} == before
