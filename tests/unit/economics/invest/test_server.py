"""The server of the page with dials: what it answers, and whom it refuses."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from openbook.economics.invest.server import MAX_BODY_BYTES, MAX_CONNECTIONS, Server, Site
from openbook.errors import UserError

PAGE = "<!doctype html><p>a page</p>"


def answer(dials: Mapping[str, float]) -> dict[str, Any]:
    if "price" not in dials:
        raise UserError("there is no such dial", "known: price")
    return {"parts": {}, "figures": {"npv": 2 * dials["price"]}, "status": "done"}


@contextmanager
def running(site: Site) -> Iterator[Server]:
    server = Server(site, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.close()
        thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(Site(page=PAGE, answer=answer)) as found:
        yield found


def ask(
    server: Server, method: str, path: str, body: str | bytes = b"", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request; `headers` in Python's spelling, and the server's own Host unless another is given."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        content = body.encode() if isinstance(body, str) else body
        usual = {"Host": f"127.0.0.1:{server.port}", "Content-Length": str(len(content))}
        for name, value in {**usual, **given}.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders(content)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def post(server: Server, body: str, **headers: str) -> tuple[int, Any]:
    status, _, said = ask(server, "POST", "/answer", body, **{"Content_Type": "application/json", **headers})
    return status, json.loads(said)


def test_the_page_and_its_script_are_served_with_a_policy_that_lets_nothing_else_in(server: Server) -> None:
    status, headers, body = ask(server, "GET", "/")
    assert (status, body.decode()) == (200, PAGE)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    status, headers, body = ask(server, "GET", "/dials.js")
    assert status == 200 and headers["Content-Type"].startswith("text/javascript") and b"/answer" in body
    assert ask(server, "HEAD", "/")[2] == b""


def test_positions_of_dials_are_answered_by_the_python_code(server: Server) -> None:
    status, said = post(server, '{"price": 21}')
    assert (status, said["figures"]) == (200, {"npv": 42.0})


def test_a_position_that_cannot_be_is_one_line(server: Server) -> None:
    assert post(server, '{"prize": 1}') == (422, {"error": "there is no such dial; known: price"})


@pytest.mark.parametrize(
    "body", ["", "[1]", "{", '{"price": "1"}', '{"price": NaN}', '{"price": true}', "[" * 4000]
)
def test_a_body_that_is_no_position_is_refused(server: Server, body: str) -> None:
    status, said = post(server, body)
    assert status == 400 and said["error"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_a_page_that_was_rebound_to_loopback_is_refused(server: Server, host: str) -> None:
    for method, path in (("GET", "/"), ("POST", "/answer")):
        status, _, body = ask(server, method, path, "{}", Host=host.format(port=server.port))
        assert status == 421 and PAGE.encode() not in body
    assert ask(server, "GET", "/", Host=f"localhost:{server.port}")[0] == 200


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "https://127.0.0.1:{port}"])
def test_another_origin_may_not_ask(server: Server, origin: str) -> None:
    assert post(server, '{"price": 1}', Origin=origin.format(port=server.port))[0] == 403
    assert post(server, '{"price": 1}', Origin=f"http://127.0.0.1:{server.port}")[0] == 200


def test_a_form_of_another_page_cannot_send_what_is_taken(server: Server) -> None:
    assert post(server, '{"price": 1}', Content_Type="text/plain")[0] == 415
    assert post(server, '{"price": 1}', Content_Type="application/x-www-form-urlencoded")[0] == 415


@pytest.mark.parametrize(
    ("length", "status"),
    [("", 411), ("-1", 411), ("x", 411), (str(MAX_BODY_BYTES + 1), 413), ("9" * 40, 413)],
)
def test_a_body_without_a_length_or_too_long_is_refused_before_it_is_read(
    server: Server, length: str, status: int
) -> None:
    assert post(server, "{}", Content_Length=length)[0] == status


@pytest.mark.parametrize(("method", "path"), [("GET", "/../secret"), ("GET", "/?x"), ("POST", "/")])
def test_there_is_nothing_else(server: Server, method: str, path: str) -> None:
    assert ask(server, method, path)[0] == 404


def test_a_defect_is_told_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def broken(dials: Mapping[str, float]) -> dict[str, Any]:
        raise ZeroDivisionError("secret")

    with running(Site(page=PAGE, answer=broken)) as server:
        assert post(server, "{}") == (500, {"error": "a defect of openbook"})
    assert "ZeroDivisionError: secret" in capfd.readouterr().err


def test_an_answer_that_takes_too_long_is_refused_and_the_next_one_is_given() -> None:
    free = threading.Event()

    def slow(dials: Mapping[str, float]) -> dict[str, Any]:
        free.wait(5)
        return {"parts": {}}

    with running(Site(page=PAGE, answer=slow, answer_seconds=0.05)) as server:
        status, said = post(server, "{}")
        assert status == 503 and "no answer within 0.05 s" in said["error"]
        free.set()
        assert post(server, "{}")[0] == 200


def test_more_connections_than_there_are_places_are_closed_and_places_come_back() -> None:
    with running(Site(page=PAGE, answer=answer)) as server:
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(MAX_CONNECTIONS)]
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as one_more:
            assert one_more.recv(1) == b""
        for connection in held:
            connection.close()
        for _ in range(50):
            try:
                assert ask(server, "GET", "/")[0] == 200
                return
            except (ConnectionError, http.client.HTTPException):
                time.sleep(0.02)
        raise AssertionError("no place came back")


def test_a_port_that_is_taken_or_is_none_is_a_clear_mistake(server: Server) -> None:
    with pytest.raises(UserError, match=f"port {server.port} cannot be listened on: Address already in use"):
        Server(Site(page=PAGE, answer=answer), server.port)
    with pytest.raises(UserError, match="no port 70000"):
        Server(Site(page=PAGE, answer=answer), 70_000)
