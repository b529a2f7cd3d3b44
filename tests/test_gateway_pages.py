"""The gateway's own pages: who gets them, and whether they say what the store and the registry say."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fakes import BASE, FakeClock, make_episode, says
from gateway_house import gateway_house, run, until
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from report_data import report_data
from sleepyd.figures import HomeMetrics, Remembered, Snapshot
from sleepyd.meters import Meters
from sleepyd.pages import Home

from sleepy_coder.adapter_manifest import Pointer
from sleepy_coder.canary import last_state
from sleepy_coder.config import CanarySettings
from sleepy_coder.errors import StoreError
from sleepy_coder.registry import Registry
from sleepy_coder.report.dashboard import dashboard_html
from sleepy_coder.serve.gateway_client import Outlook
from sleepy_coder.store import Store
from sleepy_coder.store_figures import Figures
from sleepy_coder.types import Outcome

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
GUARDED = ("/metrics", "/admin/state", "/admin/night", "/admin/check", "/dashboard")
DOCS = Path(__file__).parent.parent / "docs"
GATE = "sleepy_gate_decisions"


OUTLOOK = Outlook(
    why="waits for the window 01:00-06:00", running=False, next=datetime(2026, 11, 24, 1, tzinfo=UTC), looked=MIDNIGHT
)


class SomeNights:
    """Holds no nights, and counts who wanted one."""

    def __init__(self) -> None:
        self.wanted = 0

    def outlook(self) -> Outlook:
        return OUTLOOK

    def begin_now(self) -> str:
        self.wanted += 1
        return "a night begins"


def lived(folder: Path) -> Store:
    """A store with the five nights of report_data, a canary, and three episodes, one of them of yesterday."""
    store = Store(folder / "lived.db")
    store.begin_canary("p", "sc-0004-12345678", BASE, 0.5, MIDNIGHT)
    for night in report_data(2).nights:
        store.finish_night(night)
    outcomes = (Outcome.PASS, Outcome.PASS, Outcome.FAIL)
    days = ("2026-11-22T23:59:00+00:00", "2026-11-23T02:00:00+01:00", "2026-11-23T00:30:00+00:00")
    for number, (outcome, day) in enumerate(zip(outcomes, days, strict=True)):
        episode = make_episode(number, outcome)
        store.save_episode(episode.model_copy(update={"created": datetime.fromisoformat(day)}))
    return store


def shown(store: Store, serving: str = "sc-0004-12345678") -> Remembered[Snapshot]:
    canary = last_state(store, CanarySettings())  # pyright: ignore[reportCallIssue]
    return Remembered(lambda: Snapshot(figures=store.figures(MIDNIGHT), serving=serving, since=MIDNIGHT, canary=canary))


def home(store: Store, nights: SomeNights | None = None) -> Home:
    page = Remembered(lambda: dashboard_html(report_data(2), live=True))
    return Home(shown(store), page, nights or SomeNights(), folder=Path("/home/of/it"))


def numbers(meters: Meters) -> dict[tuple[str, str], float]:
    """Name and labels of each number on the page."""
    return {
        (sample.name, ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(meters.page().decode())
        for sample in family.samples
    }


# The store in figures


def test_an_empty_store_has_figures(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db") as store:
        none = Figures(episodes=(), today=0, quarantined=0, nights={}, decisions={}, last=None)
        assert store.figures(MIDNIGHT) == none


def test_episodes_are_of_today_whatever_zone_their_time_is_in(tmp_path: Path) -> None:
    with lived(tmp_path) as store:
        assert store.figures(MIDNIGHT).today == 2


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.datetimes(datetime(2026, 11, 21), datetime(2026, 11, 25)), st.integers(-14, 14))))  # noqa: DTZ001
def test_today_is_what_was_made_since_midnight(moments: list[tuple[datetime, int]]) -> None:
    made = [moment.replace(tzinfo=timezone(timedelta(hours=hours))) for moment, hours in moments]
    with TemporaryDirectory() as folder, Store(Path(folder) / "store.db") as store:
        for number, moment in enumerate(made):
            store.save_episode(make_episode(number, Outcome.PASS).model_copy(update={"created": moment}))
        assert store.figures(MIDNIGHT).today == sum(moment >= MIDNIGHT for moment in made)


def test_the_state_and_the_metrics_tell_how_the_canary_does(tmp_path: Path) -> None:
    async def story() -> None:
        with lived(tmp_path) as store:
            page = home(store)
            assert page.snapshot is not None
            page.snapshot.get()
            async with gateway_house(tmp_path, says(b""), home_page=page) as house:
                _, reply = await house.get("/admin/state")
                told = json.loads(reply)["canary"]
                assert (told["trial"]["adapter"], told["trial"]["stage"]) == ("sc-0004-12345678", "split")
                assert (told["evidence"]["sessions_e"], told["threshold"]) == (1.0, 20.0)
            meters = Meters()
            meters.add(HomeMetrics(shown(store)))
            assert numbers(meters)["sleepy_canary_running", ""] == 1
            assert numbers(meters)["sleepy_canary_e_value", "kind=sessions"] == 1

    run(story)


# Metrics


def test_the_metrics_tell_episodes_nights_and_what_serves(tmp_path: Path) -> None:
    with lived(tmp_path) as store:
        store.quarantine("inbox", "no JSON", "{")
        meters = Meters()
        wrong = {"http://b": "does not answer"}
        meters.add(HomeMetrics(shown(store), ("http://a", "http://b"), lambda: wrong, SomeNights().outlook))
        told = numbers(meters)
        last = report_data(2).nights[-1]
    assert sum(value for (name, _), value in told.items() if name == "sleepy_episodes") == 3
    assert told["sleepy_episodes_today", ""] == 2
    assert told["sleepy_quarantined", ""] == 1
    assert sum(value for (name, _), value in told.items() if name == "sleepy_nights") == 5
    assert told["sleepy_last_night_phase_seconds", "phase=train"] == 402.5
    assert told["sleepy_last_night_cycle", ""] == 5
    assert told["sleepy_last_night_finished_timestamp_seconds", ""] == last.finished.timestamp()
    assert told["sleepy_serving_info", "model=sc-0004-12345678"] == 1
    assert told["sleepy_serving_cycle", ""] == 4
    assert told["sleepy_server_in_order", "server=http://a"] == 1
    assert told["sleepy_server_in_order", "server=http://b"] == 0
    assert told["sleepy_next_window_timestamp_seconds", ""] == datetime(2026, 11, 24, 1, tzinfo=UTC).timestamp()
    assert told["sleepy_night_running", ""] == 0


@pytest.mark.parametrize("whose", ["registry", "keeper"])
def test_no_server_is_in_order_where_none_can_be_looked_after(tmp_path: Path, whose: str) -> None:
    with lived(tmp_path) as store:
        meters = Meters()
        meters.add(HomeMetrics(shown(store), ("http://a",), lambda: {whose: "cannot be read"}))
        assert numbers(meters)["sleepy_server_in_order", "server=http://a"] == 0


def test_the_gates_decisions_are_counted_also_those_of_another_process(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db") as watched, Store(tmp_path / "store.db") as night:
        meters = Meters()
        meters.add(HomeMetrics(Remembered(lambda: shown(watched).get() or pytest.fail("unreadable"), seconds=0)))
        assert numbers(meters)["sleepy_gate_decisions", "decision=reject"] == 0
        night.begin_night(1)
        night.finish_phase(1, "gate", '{"decision": "reject"}', 0.1)
        assert numbers(meters)["sleepy_gate_decisions", "decision=reject"] == 1


def test_a_new_home_counts_nights_and_decisions_of_every_kind_from_zero(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db") as store:
        meters = Meters()
        meters.add(HomeMetrics(shown(store)))
        told = {key: value for key, value in numbers(meters).items() if key[0] in ("sleepy_nights", GATE)}
    outcomes = ("promoted", "rejected", "inconclusive", "skipped", "failed")
    decisions = ("promote", "reject", "inconclusive")
    assert told == {
        **{("sleepy_nights", f"outcome={outcome}"): 0 for outcome in outcomes},
        **{(GATE, f"decision={decision}"): 0 for decision in decisions},
    }


def test_a_store_that_cannot_be_read_leaves_its_numbers_out_and_says_so() -> None:
    def read() -> Snapshot:
        raise StoreError("the file is damaged", "restore it")

    meters = Meters()
    meters.add(HomeMetrics(Remembered(read)))
    told = numbers(meters)
    assert told["sleepy_store_up", ""] == 0
    assert not [name for name, _ in told if name.startswith(("sleepy_episodes", "sleepy_serving"))]


def test_the_store_is_read_once_for_all_who_ask_within_a_while() -> None:
    now, reads = [0.0], list[float]()

    def read() -> int:
        reads.append(now[0])
        return len(reads)

    remembered = Remembered(read, seconds=10, now=lambda: now[0])
    assert remembered.last() is None
    assert [remembered.get(), remembered.get(), remembered.last()] == [1, 1, 1]
    now[0] = 10
    assert [remembered.last(), remembered.get()] == [1, 2]


def watched(text: str) -> set[str]:
    return set(re.findall(r"\b(?:sleepy_\w+|process_\w+)", text))


def told_names(tmp_path: Path) -> set[str]:
    with lived(tmp_path) as store:
        store.begin_night(6)
        store.finish_phase(6, "gate", '{"decision": "reject"}', 0.1)
        meters = Meters()
        meters.add(HomeMetrics(shown(store), ("http://a",), dict[str, str], SomeNights().outlook))
        meters.watch(lambda: {"m": 1}, lambda: 0, 512)
        meters.request("chat", 200)
        meters.napping("held")
        meters.dropped("queue_full")
        return {name for name, _ in numbers(meters)}


@pytest.mark.parametrize("file", ["grafana.json", "alerts.yml"])
def test_every_metric_that_the_dashboard_and_the_alerts_name_exists(tmp_path: Path, file: str) -> None:
    named = watched((DOCS / file).read_text())
    assert len(named) > 5
    assert named <= told_names(tmp_path)


def test_the_grafana_dashboard_is_one_and_asks_in_every_panel() -> None:
    board = json.loads((DOCS / "grafana.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(panels) > 8
    assert all(panel["title"] and panel["targets"][0]["expr"] for panel in panels)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_every_metric_is_in_the_documentation(tmp_path: Path) -> None:
    families = {re.sub(r"_(total|created|bucket|sum|count)$", "", name) for name in told_names(tmp_path)}
    page = (DOCS / "monitoring.md").read_text()
    assert not [name for name in families if name.startswith("sleepy_") and f"`{name}" not in page]


# Who may


@pytest.mark.parametrize("path", GUARDED)
def test_a_page_of_another_site_gets_nothing_in_its_readers_name(tmp_path: Path, path: str) -> None:
    nights = SomeNights()

    async def story() -> None:
        with lived(tmp_path) as store:
            async with gateway_house(tmp_path, says(b""), home_page=home(store, nights)) as house:
                for headers in (
                    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
                    {"Origin": "https://evil.example"},
                    {"Host": "evil.example:8400"},
                ):
                    async with house.http.post(house.url + path, headers=headers) as reply:
                        assert reply.status == 403
                    assert (await house.get(path, **headers))[0] == 403
        assert nights.wanted == 0

    run(story)


def test_the_browser_of_whoever_has_the_key_may_give_it_as_the_password(tmp_path: Path) -> None:
    def basic(password: str) -> str:
        return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()

    async def story() -> None:
        with lived(tmp_path) as store:
            async with gateway_house(tmp_path, says(b""), home_page=home(store), api_key="s3cret-key") as house:
                async with house.http.get(f"{house.url}/dashboard") as reply:
                    assert reply.status == 401
                    assert reply.headers["WWW-Authenticate"].startswith("Basic ")
                assert (await house.get("/dashboard", Authorization=basic("wrong")))[0] == 401
                assert (await house.get("/dashboard", Authorization="Basic ~~~"))[0] == 401
                assert (await house.get("/dashboard", Authorization=basic("s3cret-key")))[0] == 200
                assert (await house.get("/v1/models", Authorization=basic("s3cret-key")))[0] == 401

    run(story)


# The state and the live page


def test_the_state_tells_what_the_live_page_shows(tmp_path: Path) -> None:
    async def story() -> None:
        with lived(tmp_path) as store:
            page = home(store)
            async with gateway_house(tmp_path, says(b""), home_page=page) as house:
                first = json.loads((await house.get("/admin/state"))[1])
                assert (first["serving"], first["episodes_today"]) == (BASE, None)
                assert first["home"] == "/home/of/it"
                assert first["nights"]["why"] == "waits for the window 01:00-06:00"
                await until(lambda: page.snapshot is not None and page.snapshot.last() is not None)
                state = json.loads((await house.get("/admin/state"))[1])
                assert (state["episodes_today"], state["last_night"][0]) == (2, 5)

    run(story)


def test_asking_for_the_state_has_the_figures_read_behind_it(tmp_path: Path) -> None:
    async def story() -> None:
        with lived(tmp_path) as store:
            page = home(store)
            async with gateway_house(tmp_path, says(b""), home_page=page) as house:
                await house.get("/admin/state")
                assert page.snapshot
                await until(lambda: page.snapshot is not None and page.snapshot.last() is not None)

    run(story)


def test_the_live_page_may_ask_its_gateway_and_nobody_else(tmp_path: Path) -> None:
    async def story() -> None:
        with lived(tmp_path) as store:
            async with (
                gateway_house(tmp_path, says(b""), home_page=home(store)) as house,
                house.http.get(f"{house.url}/dashboard") as reply,
            ):
                assert reply.status == 200
                assert reply.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
                page = await reply.text()
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
        assert policy.startswith("default-src 'none'") and policy.endswith("connect-src 'self'")
        assert not re.search(r'(?:src|href)="', page)

    run(story)


def test_the_page_on_disk_may_ask_nobody() -> None:
    page = dashboard_html(report_data(2))
    assert "connect-src" not in page and "admin/state" not in page


def test_a_gateway_whose_store_fails_says_so_instead_of_a_page(tmp_path: Path) -> None:
    def fail() -> str:
        raise StoreError("the file is damaged", "restore it")

    async def story() -> None:
        async with gateway_house(tmp_path, says(b""), home_page=Home(None, Remembered(fail), None)) as house:
            assert (await house.get("/dashboard"))[0] == 503

    run(story)


def test_the_pointer_tells_since_when_it_stands(tmp_path: Path) -> None:
    registry = Registry(tmp_path, FakeClock())
    assert registry.since() is None
    (tmp_path / "active.json").write_text(Pointer(name=None, previous=None, since=MIDNIGHT).model_dump_json())
    assert registry.since() == MIDNIGHT
