"""The mail about a pass: what somebody should know, each thing once, and the exit code with it."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from moma_cl.automation import conditions, metrics, notices, notify
from moma_cl.automation.notices import DRIFT, FAILED, REFUSED, SET_ASIDE, notice_of
from moma_cl.automation.status import status
from moma_cl.hub import Hub
from moma_cl.reconciling.pass_actions import Done, PassAction
from moma_store.errors import InvalidInputError
from tests.helpers import hubs
from tests.helpers.rows import json_lines


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    hub = hubs.make_hub(tmp_path_factory.mktemp("founded") / "hub")
    hubs.add_task(hub, "energy", 60, unit="eV/atom", module="none")
    return hub


def night(hub):
    """A pass, its mail and its exit code; what was told is remembered."""
    done = Hub(hub).update(settle=0.0)
    notice = notice_of(hub, done)
    conditions.remember(hub, done)
    return (notice.text if notice else ""), notices.exit_code(done)


def entry(action, task="energy", text="it is so", **figures):
    return Done(task=task, action=action, kind="", text=text, seconds=0.0, figures=figures)


def test_a_night_that_went_well_has_no_mail(hub, deliver, made_up):
    deliver(made_up(4, first=60))
    assert night(hub) == ("", 0)


def test_a_mail_says_how_many_rows_of_how_many_were_refused_and_why(hub, deliver, made_up):
    missing = {**made_up(1, first=62)[0], "energy": None}
    deliver([*made_up(2, first=60), missing])
    text, code = night(hub)
    assert code == REFUSED
    assert "hub on " in text.splitlines()[0]
    assert "1 row refused" in text.splitlines()[0]
    assert "energy/night.jsonl: 1 of 3 rows refused, 2 added" in text
    assert "1 missing-target, e.g. row-62 at" in text
    assert "the report in inbox/energy/done/ names every row" in text
    assert "champion changed: its data is newer; on the 60 rows that both have" in text


def test_a_mail_about_drift_says_what_to_do(hub, deliver, made_up):
    deliver([{**row, "energy": 96.485 * row["energy"]} for row in made_up(6, first=60)])
    text, code = night(hub)
    assert code == DRIFT
    assert "energy: promotion held" in text.splitlines()[0]
    assert text.count(": drift, p = ") == 1
    assert "in night.jsonl" in text or "of night.jsonl" in text
    assert "`moma-cl confirm energy`" in text
    assert "champion unchanged" in text
    assert night(hub) == ("", 0)


def test_what_lasts_is_told_once_and_again_if_it_returns(hub, deliver, made_up):
    deliver(made_up(1), folder="enrgy")
    deliver(json_lines(made_up(2, first=60))[:-20], name="half.jsonl")
    deliver("", name="empty.jsonl")
    text, code = night(hub)
    assert code == REFUSED
    assert "3 deliveries left alone" in text
    assert "energy/half.jsonl is left alone: its end is cut off" in text
    assert "energy/empty.jsonl is left alone: it is empty" in text
    assert "did you mean 'energy'?" in text
    assert night(hub) == ("", 0)
    (hub / "inbox" / "energy" / "empty.jsonl").unlink()
    assert night(hub) == ("", 0)
    deliver("", name="empty.jsonl")
    text, _ = night(hub)
    assert "empty.jsonl" in text
    assert "half.jsonl" not in text


def test_the_same_file_twice_is_told_and_so_are_replaced_rows(hub, deliver, made_up):
    deliver(made_up(2, first=60), name="a.jsonl")
    assert night(hub) == ("", 0)
    deliver(made_up(2, first=60), name="b.jsonl")
    text, code = night(hub)
    assert "energy/b.jsonl: nothing to add, its content was added before as a.jsonl" in text
    assert code == 0
    row = {**made_up(1)[0], "energy": made_up(1)[0]["energy"] + 0.001}
    deliver([row], name="c.jsonl", folder="energy/replace")
    text, code = night(hub)
    assert "energy/replace/c.jsonl: 1 added, 1 stored row replaced" in text
    assert code == 0


def test_elements_that_are_new_are_told(hub, deliver, made_up):
    rows = made_up(3, first=60)
    for row in rows:
        row["structure"]["species"] = ["Ag", row["structure"]["species"][1]]
    deliver(rows)
    text, _ = night(hub)
    assert "elements that no earlier row has: Ag" in text


@pytest.mark.parametrize(
    ("actions", "code"),
    [
        ([PassAction.REFUSED, PassAction.HELD, PassAction.SET_ASIDE, PassAction.FAILED], FAILED),
        ([PassAction.REFUSED, PassAction.HELD, PassAction.SET_ASIDE], SET_ASIDE),
        ([PassAction.REFUSED, PassAction.HELD], DRIFT),
        ([PassAction.UNFINISHED], REFUSED),
        ([PassAction.WAITING], FAILED),
        ([PassAction.PROMOTED, PassAction.MEASURED], 0),
    ],
)
def test_the_gravest_news_is_the_exit_code(actions, code):
    assert notices.exit_code([entry(action) for action in actions]) == code


def test_names_of_files_do_not_drive_a_terminal(tmp_path):
    notice = notice_of(tmp_path, [entry(PassAction.UNCLAIMED, "x", "a\x1b[2Jb in inbox/x/")])
    assert "\x1b" not in notice.text


def test_a_command_gets_the_mail_and_nothing_of_it_is_executed(tmp_path):
    made, out = tmp_path / "made", tmp_path / "out"
    notice = notice_of(
        tmp_path, [entry(PassAction.FAILED, text=f"$(touch {made}); `touch {made}`")]
    )
    script = f"import sys; open({str(out)!r}, 'w').write(sys.argv[1] + '|' + sys.stdin.read())"
    notify.notify(f'{sys.executable} -c "{script}" {{subject}}', notice)
    subject, _, body = out.read_text().partition("|")
    assert subject == notice.subject
    assert body == "\n".join(notice.lines) + "\n"
    assert not made.exists()


def test_a_command_that_fails_is_told(tmp_path):
    notice = notice_of(tmp_path, [entry(PassAction.FAILED)])
    with pytest.raises(notify.NotifyError, match="exited 3"):
        notify.notify(f"{sys.executable} -c 'raise SystemExit(3)'", notice)
    with pytest.raises(notify.NotifyError, match="no-such-program"):
        notify.notify("no-such-program", notice)
    with pytest.raises(InvalidInputError):
        notify.check_target("'unclosed")


def test_an_address_gets_json(tmp_path):
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.headers["Content-Type"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    notice = notice_of(tmp_path, [entry(PassAction.FAILED)])
    notify.notify(f"http://127.0.0.1:{server.server_port}/hook", notice)
    thread.join()
    server.server_close()
    ((kind, document),) = posted
    assert kind == "application/json"
    assert (document["subject"], document["exit_code"]) == (notice.subject, FAILED)
    assert document["text"] == notice.text


def test_metrics_in_the_format_of_prometheus(hub, deliver, made_up):
    deliver([{**row, "energy": 96.485 * row["energy"]} for row in made_up(6, first=60)])
    night(hub)
    deliver("", name="empty.jsonl")
    lines = metrics.metrics_text(status(hub)).splitlines()
    place = f'hub="{hub}"'
    assert f'moma_cl_task_rows{{{place},task="energy"}} 66' in lines
    assert f'moma_cl_task_promotion_held{{{place},task="energy"}} 1' in lines
    waiting = f'moma_cl_inbox_deliveries{{{place},task="energy",state="unfinished"}} 1'
    assert waiting in lines
    assert metrics._written({"hub": 'a"b\\c\n'}) == '{hub="a\\"b\\\\c\\n"}'
