"""What is passed on, which headers go with it, and who may ask."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict
from sleepyd.routing import Target, key_fits, passed_headers, read_target, request_headers


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/v1/chat/completions", Target("", "/v1/chat/completions", "")),
        ("/v1/messages?beta=true&x=%2F", Target("", "/v1/messages", "?beta=true&x=%2F")),
        ("/v1/future%2Fpath/x", Target("", "/v1/future%2Fpath/x", "")),
        ("/s/my%20run/v1/responses?a=?", Target("my run", "/v1/responses", "?a=?")),
        ("/v1/x?y=/../z", Target("", "/v1/x", "?y=/../z")),
    ],
)
def test_a_path_under_v1_is_passed_as_it_came_without_its_tag(raw: str, target: Target) -> None:
    assert read_target(raw) == target


@pytest.mark.parametrize(
    "raw",
    ["/", "/v1", "/v2/x", "/pause", "http://elsewhere/v1/x", "*", "/v1/../pause", "/v1/%2e%2e/pause", "/v1/./x"]
    + ["/s//v1/x", "/s/a/b/v1/x", "/s/a/v2/x", "/s/a/v1/../x", "//elsewhere/v1/x"],
)
def test_nothing_outside_of_v1_is_passed(raw: str) -> None:
    assert read_target(raw) is None


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("/v1/load_lora_adapter", True),
        ("/v1//unload_lora_adapter/", True),
        ("/v1/%6coad_lora_adapter", True),
        ("/v1/load_lora_adapters", False),
        ("/v1/chat/completions", False),
    ],
)
def test_changing_the_adapters_is_refused_however_it_is_spelled(path: str, refused: bool) -> None:
    target = read_target(path)
    assert target is not None and target.refused == refused


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter#x", "/v1/chat/completions#", "/v1/..#x", "/v1/models?a#b"])
def test_a_target_with_a_fragment_is_none_since_it_would_be_cut_off_on_the_way(path: str) -> None:
    assert read_target(path) is None


def test_headers_for_this_hop_only_end_here_and_repeated_ones_stay() -> None:
    headers = CIMultiDict(
        [("Connection", "close, X-Private"), ("x-private", "1"), ("TE", "trailers"), ("X-Kept", "a"), ("x-kept", "b")]
    )
    assert list(passed_headers(headers).items()) == [("X-Kept", "a"), ("x-kept", "b")]


CALLER = CIMultiDict({"Authorization": "Bearer caller", "x-api-key": "caller", "Cookie": "c=1", "Host": "gateway"})


def sent(guarded: bool, server_key: str | None = None) -> CIMultiDict[str]:
    return request_headers(CALLER, exchange_id="e1", guarded=guarded, server_key=server_key, decoded=False)


def test_without_a_key_of_its_own_the_gateway_passes_the_callers_credentials() -> None:
    headers = sent(guarded=False, server_key="server")
    assert (headers["Authorization"], headers["x-api-key"], headers["Cookie"]) == ("Bearer caller", "caller", "c=1")
    assert "Host" not in headers


def test_the_gateways_key_ends_here_and_the_servers_key_goes_on() -> None:
    headers = sent(guarded=True, server_key="server")
    assert headers.getall("Authorization") == ["Bearer server"] and "x-api-key" not in headers
    assert "Authorization" not in sent(guarded=True)


def test_a_request_gets_an_id_unless_it_has_one() -> None:
    assert sent(guarded=False)["X-Request-Id"] == "e1"
    given = request_headers(
        CIMultiDict({"x-request-id": "mine"}), exchange_id="e1", guarded=False, server_key=None, decoded=False
    )
    assert given.getall("X-Request-Id") == ["mine"]


@pytest.mark.parametrize(
    ("headers", "fits"),
    [
        ({"Authorization": "Bearer s3cret-key"}, True),
        ({"authorization": "bearer  s3cret-key "}, True),
        ({"X-API-Key": "s3cret-key"}, True),
        ({"Authorization": "s3cret-key"}, False),
        ({"Authorization": "Basic s3cret-key"}, False),
        ({"x-api-key": "s3cret-ke"}, False),
        ({"x-api-key": "s3cret-key\udcff"}, False),
        ({}, False),
    ],
)
def test_the_key_fits_as_bearer_or_as_x_api_key(headers: dict[str, str], fits: bool) -> None:
    assert key_fits(CIMultiDict(headers), "s3cret-key") == fits
