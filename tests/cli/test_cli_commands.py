"""Each command on a real hub."""

import csv
import json

import pytest

pytestmark = pytest.mark.timeout(600)


def test_init_says_what_it_made(made_hub):
    _, printed = made_hub
    assert "backbone cgcnn" in printed["init"].out
    assert "add-task" in printed["init"].err


def test_init_refuses_a_folder_that_is_a_hub(hub):
    ended = hub("init", "--backbone", "cgcnn", "--json")
    assert ended.code == 4
    assert ended.envelope["errors"][0]["code"] == "already-exists"


def test_add_task_reports_rows_refusals_errors_and_the_next_command(made_hub, inputs):
    _, printed = made_hub
    out, err = printed["energy"].out, printed["energy"].err
    assert "energy: 60 rows" in out
    assert "validation error" in out
    assert "eV/atom" in out
    assert "[refused.overlapping-atoms] 1 row, first overlap (" in err
    assert "first.jsonl:61)" in err
    assert "moma-cl predict energy" in err
    report = json.loads((inputs / "refused.json").read_text())
    assert report["counts"] == {"overlapping-atoms": 1}


def test_add_task_with_refusals_is_partial_and_counts_every_row(made_hub):
    envelope = made_hub[1]["gap"].envelope
    assert (envelope["status"], envelope["exit_code"]) == ("partial", 0)
    rows = envelope["data"]["rows"]
    assert rows["rows"] == rows["added"] == 60 == sum(rows["folds"].values())
    assert [refusal["id"] for refusal in rows["refusals"]] == ["overlap"]
    assert envelope["data"]["task"]["champion"]


def test_a_dry_run_of_add_task_validates_and_writes_nothing(hub, inputs):
    before = hub.json("log")
    arguments = ("add-task", "dry", inputs / "first.jsonl", "--target", "gap", "--unit", "eV")
    ended = hub.ok(*arguments, "--dry-run", "--json")
    assert ended.envelope["data"]["rows"] == 60
    assert ended.envelope["data"]["folds"] == hub.json("tasks")[0]["folds"]
    assert hub.json("log") == before


def test_tasks_lists_what_the_interface_promises(hub):
    energy, gap = hub.json("tasks")
    promised = {"name", "property", "unit", "rows", "champion", "validation_mae", "held_out_mae"}
    assert promised <= energy.keys()
    assert (energy["name"], energy["unit"], energy["rows"]) == ("energy", "eV/atom", 60)
    assert gap["modules"] == {}
    (on,) = gap["compositions"]
    weights = [part["weight"] for part in on["modules"]]
    assert (on["backbone"], sum(weights) + on["backbone_weight"]) == ("cgcnn", pytest.approx(1))
    text = hub.ok("tasks").out
    assert text.splitlines()[0].split()[:3] == ["task", "property", "rows"]
    assert len(text.splitlines()) == 3


def test_modules_lists_what_the_interface_promises(hub):
    (module,) = hub.json("modules")
    assert {"name", "backbone", "version", "task", "kind", "bytes", "created"} <= module.keys()
    assert (module["name"], module["version"], module["kind"]) == ("energy", 1, "full")
    gap = hub.json("tasks")[1]
    weights = {part["digest"]: part["weight"] for part in gap["compositions"][0]["modules"]}
    assert module["used_by"] == (
        {"gap": weights[module["digest"]]} if module["digest"] in weights else {}
    )


def test_show_finds_tasks_refs_and_abbreviated_digests(hub):
    (module,) = hub.json("modules")
    task = hub.json("show", "energy")
    assert task["kind"] == "task"
    assert task["document"]["dataset"]["segments"][0]["rows"] == 60
    assert task["refs"]["modules/energy@cgcnn"][-1]["digest"] == module["digest"]
    by_ref = hub.json("show", "modules/energy@cgcnn")
    by_digest = hub.json("show", module["digest"][:8])
    assert by_ref["document"] == by_digest["document"]
    assert (
        f"module modules/energy@cgcnn {module['digest']}"
        in hub.ok("show", "modules/energy@cgcnn").out
    )


def test_log_is_newest_first_and_limited_after_filtering(hub):
    entries = hub.json("log", "-n", "1000")
    counters = [entry["counter"] for entry in entries]
    assert counters == sorted(counters, reverse=True)
    assert [entry["action"] for entry in entries[-2:]] == ["init", "add-backbone"]
    (newest,) = hub.json("log", "energy", "-n", "1")
    assert newest == next(entry for entry in entries if entry["task"] == "energy")


def test_predict_answers_in_order_and_a_bad_row_stops_nothing(hub, inputs):
    ended = hub.ok("predict", "energy", inputs / "ask.jsonl", "absent.cif", "--format", "jsonl")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["id"] for row in rows] == ["row-80", "overlap", "row-81", "row-82", "absent"]
    assert [row["status"] for row in rows] == [
        *("ok", "overlapping-atoms", "ok", "ok", "not-found")
    ]
    promised = {"id", "source", "status", "value", "unit", "lower", "upper", "predictor"}
    assert all(promised <= row.keys() for row in rows)
    assert rows[0]["lower"] <= rows[0]["value"] <= rows[0]["upper"]
    assert rows[1]["value"] is None
    assert rows[1]["predictor"] == hub.json("tasks")[0]["champion"]
    assert "[overlapping-atoms] 1 row, first overlap" in ended.err


def test_predict_fails_if_no_row_has_an_answer(hub, inputs):
    ended = hub("predict", "energy", inputs / "bad.jsonl", "--json")
    assert ended.code == 4
    assert ended.envelope["status"] == "error"
    assert [row["status"] for row in ended.envelope["data"]] == ["overlapping-atoms"]


def test_predict_writes_a_file_in_the_layout_of_its_suffix(hub, inputs, tmp_path):
    output = tmp_path / "rows.csv"
    champion = hub.json("tasks")[0]["champion"]
    arguments = ("predict", "energy", inputs / "ask.jsonl", "--output", output, "--level", "0.5")
    ended = hub.ok(*arguments, "--at", champion[:10])
    assert ended.out == ""
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert [row["status"] for row in rows] == ["ok", "overlapping-atoms", "ok", "ok"]
    assert {row["level"] for row in rows} == {"0.5"}
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_a_suffix_that_names_no_layout_is_refused(hub, inputs, tmp_path):
    ask = ("predict", "energy", inputs / "ask.jsonl", "--output")
    ended = hub(*ask, tmp_path / "rows.xlsx")
    assert ended.code == 2
    assert "'.xlsx' is none of .jsonl, .csv, .parquet and .txt" in " ".join(ended.err.split())
    assert list(tmp_path.iterdir()) == []
    hub.ok(*ask, tmp_path / "rows.CSV")
    assert (tmp_path / "rows.CSV").read_text().startswith("id,source,")
    hub.ok(*ask, tmp_path / "rows.json", "--format", "jsonl")
    assert (tmp_path / "rows.json").read_text().startswith("{")


def test_that_there_is_nothing_to_answer_is_said(hub, tmp_path):
    (tmp_path / "empty").mkdir()
    ended = hub("predict", "energy", tmp_path / "empty")
    assert "no row to answer" in ended.err


def test_a_run_is_not_resumed_with_another_level(hub, inputs, tmp_path):
    output = tmp_path / "rows.jsonl"
    ask = ("predict", "energy", inputs / "ask.jsonl")
    hub.ok(*ask, "--output", output, "--level", "0.5")
    before = output.read_bytes()
    for level in ((), ("--level", "0.8")):
        ended = hub(*ask, "--resume", output, *level, "--json")
        assert ended.code == 4
        assert ended.envelope["errors"][0]["code"] == "invalid-input.cannot-resume"
        assert "level 0.5" in ended.envelope["errors"][0]["message"]
    hub.ok(*ask, "--resume", output, "--level", "0.5")
    assert output.read_bytes() == before


def test_rows_are_added_and_retracted_and_a_champion_answers_again(own_hub, inputs):
    added = own_hub.json("add-data", "energy", inputs / "more.jsonl")
    assert (added["rows"]["added"], added["rows"]["rows"]) == (8, 68)
    ended = own_hub.ok("retract", "energy", "row-61", "row-62", "--no-update")
    assert "2 rows retracted, 66 left" in ended.out
    (step, *_) = own_hub.json("plan", "--tasks", "energy")
    assert (step["task"], step["status"]) == ("energy", "stale")
    assert own_hub.ok("update").out == ""
    after = own_hub.json("tasks")[0]["champion"]
    moved = own_hub.json("rollback", "energy")
    assert moved["before"] == after
    assert own_hub.json("tasks")[0]["champion"] == moved["after"] != after


def test_update_is_silent_for_cron_and_plan_says_why_nothing_is_printed(hub):
    ended = hub.ok("update")
    assert (ended.out, ended.err) == ("", "")
    ended = hub.ok("plan")
    assert ended.err == "nothing is stale\n"
    assert hub.ok("plan", "--quiet").err == ""
    assert "nothing is stale" in hub.ok("-v", "update").err or hub.json("update")


def test_remove_task_asks_tells_and_removes(own_hub):
    ended = own_hub("remove-task", "energy")
    assert ended.code == 2
    assert "--yes" in ended.err
    going = own_hub.json("remove-task", "energy", "--dry-run")
    assert (going["rows"], going["removed"]) == (60, False)
    assert len(own_hub.json("tasks")) == 2
    assert own_hub.json("remove-task", "energy", "--yes")["removed"]
    assert [task["name"] for task in own_hub.json("tasks")] == ["gap"]
    assert own_hub.json("modules") == []


def test_set_recipe_says_what_it_changes_and_what_that_makes_stale(own_hub, tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text("[kernel]\nridges = [0.5]\n")
    dry = own_hub.ok("set-recipe", "energy", file, "--dry-run")
    assert "kernel.ridges: [1e-06," in dry.out
    assert "its recipe changed" in dry.out
    assert own_hub("set-recipe", "energy").code == 2
    assert own_hub("set-recipe", "energy", file, "--default").code == 2
    own_hub.ok("set-recipe", "energy", file, "--no-update")
    late = own_hub.ok("update", "--max-seconds", "0")
    assert (late.out, late.err) == ("", "no time for 1 derivation: energy: learner\n")
    drawn = own_hub.ok("plan", "--dot").out
    assert drawn.startswith("digraph plan {")
    assert "its recipe changed" in drawn
    refused = own_hub("update", "--workers", "2")
    assert (refused.code, "add --executor dask" in refused.err) == (4, True)


def test_evaluate_prints_scores_and_writes_rows(hub, inputs, tmp_path):
    rows = tmp_path / "rows.csv"
    ended = hub.ok("evaluate", "energy", inputs / "more.jsonl", "--output", rows)
    header, every, *_ = ended.out.splitlines()
    names = ("rows", "number", "error", "of median", "RMS error", "R²", "rank corr.")
    assert all(name in header for name in names)
    assert every.split()[:2] == ["all", "8"]
    assert "always answering the median of the task's rows" in ended.out
    with rows.open() as stream:
        written = list(csv.DictReader(stream))
    assert [row["id"] for row in written] == [f"row-{i}" for i in range(60, 68)]
    data = hub.json("evaluate", "energy", inputs / "more.jsonl")
    assert [row["error"] for row in data["rows"]] == [float(row["error"]) for row in written]
    assert data["scores"]["all"]["n_rows"] == 8


def test_evaluate_says_which_rows_the_task_has_already(hub, inputs):
    ended = hub.ok("evaluate", "energy", inputs / "first.jsonl")
    assert "[known-rows] 60 rows have a structure that is a row of the task" in ended.err
    assert "[refused.overlapping-atoms]" in ended.err


@pytest.mark.parametrize("name", ["rows.txt", "rows", "rows.xlsx"])
def test_evaluate_refuses_a_file_it_cannot_write(hub, inputs, tmp_path, name):
    ended = hub("evaluate", "energy", inputs / "more.jsonl", "--output", tmp_path / name)
    assert ended.code == 2
    assert not (tmp_path / name).exists()


def test_predict_gives_the_best_rows_first_and_tells_of_all(hub, inputs):
    best = hub.json("predict", "energy", inputs / "more.jsonl", "--min", "--outside", "--top", "3")
    every = hub.json("predict", "energy", inputs / "more.jsonl")
    values = sorted(row["value"] for row in every)
    assert [row["value"] for row in best] == values[:3]
    assert [row["score"] for row in best] == [-value for value in values[:3]]
    ended = hub("predict", "energy", inputs / "ask.jsonl", "--max", "--top", "1")
    assert ended.code == 0
    assert "[overlapping-atoms] 1 row, first overlap" in ended.err
    assert "3 of 4 rows answered" in ended.err
    assert "shown: the best 1" in ended.err


def test_predict_answers_for_several_tasks_and_hands_columns_on(hub, inputs, tmp_path):
    file = tmp_path / "rows.csv"
    hub.ok("predict", "energy,gap", inputs / "more.jsonl", "--keep", "gap", "--output", file)
    with file.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["task"] for row in rows[:4]] == ["energy", "gap", "energy", "gap"]
    asked = [json.loads(line) for line in (inputs / "more.jsonl").read_text().splitlines()]
    assert [float(row["gap"]) for row in rows[::2]] == [row["gap"] for row in asked]
    table = hub.ok("predict", "energy,gap", inputs / "more.jsonl", "--keep", "gap").out
    assert table.split(maxsplit=3)[:3] == ["id", "formula", "task"]


@pytest.mark.parametrize(
    "options",
    [
        ["--max", "--min"],
        ["--top", "3"],
        ["--target-window", "1"],
        ["--target-window", "2,1"],
        ["--max", "--acquire", "luck"],
        ["--max", "--resume", "rows.csv"],
        ["--sort", "colour"],
    ],
)
def test_predict_refuses_goals_that_make_no_sense(hub, inputs, options):
    ended = hub("predict", "energy", inputs / "more.jsonl", *options)
    assert ended.code in {2, 4}
    assert ended.out == ""
    for several in (["--max"], ["--resume", "rows.csv"]):
        assert hub("predict", "energy,gap", inputs / "more.jsonl", *several).code == 2


def test_add_tasks_adds_a_task_for_each_column(own_hub, inputs):
    ended = own_hub.ok(
        *("add-tasks", inputs / "first.jsonl", "--targets", "modulus", "--unit", "modulus=GPa"),
        *("--module", "none"),
    )
    assert ended.out.splitlines()[1].split()[:2] == ["modulus", "60"]
    assert "[refused.overlapping-atoms] modulus: 1 row" in ended.err
    assert "predict modulus FILES" in ended.err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "those with numbers are energy (?)"),
        (["--unit", "GPa", "--targets", "modulus"], 2, "is not COLUMN=UNIT"),
        (["--targets", "modulus"], 4, "nothing says in which unit 'modulus' are"),
        (["--targets", "energy", "--unit", "energy=eV/atom"], 4, "exists"),
    ],
)
def test_add_tasks_says_what_is_missing(hub, inputs, options, code, said):
    ended = hub("add-tasks", inputs / "first.jsonl", *options)
    assert ended.code == code
    assert said in ended.err
