"""The JSON API through the whole server: what it answers, and whom it lets in."""

import base64
import contextlib
import re

import pytest
from app_harness import ALICE, BOB, DIES, FAILS, REFERENCE, WAITS, client, events, service, settings, wait_for
from starlette.testclient import TestClient

from champ_jax.app import gate
from champ_jax.app.identity import Identities
from champ_jax.app.server import make_app
from champ_jax.common.errors import InputError

TOKEN, PASSWORD = "a-token-of-the-server", "a-password-of-the-server"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with client(tmp_path_factory.mktemp("api"), max_upload_mib=1) as made:
        yield made


@pytest.fixture
def browser(api):
    """A client without a secret of its own, as browsers are."""
    with contextlib.closing(TestClient(api.app, base_url="http://localhost:7860")) as made:
        yield made


def submit(made, **fields):
    return made.post("/api/v1/jobs", json=fields).json()["id"]


def error(answer, status: int) -> dict:
    """The body of an error, which is the same of all."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error", "field"}
    assert "\n" not in answer.json()["error"]
    return answer.json()


def test_from_upload_to_results(api):
    sent = api.post("/api/v1/uploads?name=../ann%C3%A9e.png", content=REFERENCE.read_bytes())
    assert sent.status_code == 201
    upload = sent.json()
    about = {name: value for name, value in upload.items() if name != "id"}
    assert about == {"name": "année.png", "kind": "picture", "width": 128, "height": 128, "frames": 1, "fps": None}
    assert upload in api.get("/api/v1/uploads").json()["uploads"]
    answer = api.post("/api/v1/jobs", json={"reference": upload["id"], "seed": 77, "edits": {"mirror": True}})
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert job["request"]["edits"]["mirror"] is True
    done = wait_for(api, job["id"])
    assert (done["state"], done["notes"], done["error"]) == ("done", ["a note"], None)
    assert done == api.get("/api/v1/jobs").json()["jobs"][0]
    video = api.get(done["results"]["video"])
    assert video.headers["content-type"] == "video/mp4"
    assert video.headers["content-disposition"].startswith("inline")
    assert video.json()[:2] == ["animation.mp4", 77]
    part = api.get(done["results"]["video"], headers={"Range": "bytes=0-1"})
    assert (part.status_code, part.text) == (206, '["')
    kept = api.get(f"{done['results']['record']}?download=true")
    assert kept.headers["content-disposition"] == 'attachment; filename="animation.json"'
    assert api.get(done["preview"]).content == b"a picture"
    assert api.delete(f"/api/v1/jobs/{job['id']}").status_code == 204
    error(api.get(f"/api/v1/jobs/{job['id']}"), 404)
    assert api.delete(f"/api/v1/uploads/{upload['id']}").status_code == 204
    assert upload not in api.get("/api/v1/uploads").json()["uploads"]


def test_events_go_on_where_a_client_was(api):
    id = submit(api)
    wait_for(api, id)
    answer = api.get(f"/api/v1/jobs/{id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    all_events = events(answer.text)
    assert [number for number, _ in all_events] == [*range(1, len(all_events) + 1)]
    assert all_events[0][1]["state"] == "queued"
    assert all_events[-1][1] == api.get(f"/api/v1/jobs/{id}").json()
    seen = all_events[2][0]
    rest = api.get(f"/api/v1/jobs/{id}/events", headers={"Last-Event-ID": str(seen)})
    assert events(rest.text) == all_events[3:]
    assert events(api.get(f"/api/v1/jobs/{id}/events?after={seen}").text) == all_events[3:]
    assert api.get(f"/api/v1/jobs/{id}/events?after=9999").text == ""
    assert error(api.get(f"/api/v1/jobs/{id}/events", headers={"Last-Event-ID": "-1"}), 422)["field"] == "after"
    assert error(api.get(f"/api/v1/jobs/{id}/events?after=x"), 422)["field"] == "after"


def test_events_end_when_a_job_is_cancelled_meanwhile(api):
    id = submit(api, seed=WAITS)
    wait_for(api, id, "running")
    assert api.post(f"/api/v1/jobs/{id}/cancel").json()["state"] == "cancelled"
    assert events(api.get(f"/api/v1/jobs/{id}/events").text)[-1][1]["state"] == "cancelled"
    assert "is cancelled, not done" in error(api.get(f"/api/v1/jobs/{id}/results/video"), 409)["error"]


def test_a_repeated_request_is_the_same_job(api):
    first = api.post("/api/v1/jobs", json={"seed": 3}, headers={"Idempotency-Key": "a"}).json()["id"]
    again = api.post("/api/v1/jobs", json={"seed": 3}, headers={"Idempotency-Key": "a"})
    assert (again.status_code, again.json()["id"]) == (201, first)
    assert api.post("/api/v1/jobs", json={"seed": 3, "key": "a"}).json()["id"] == first
    other = api.post("/api/v1/jobs", json={"seed": 4}, headers={"Idempotency-Key": "a"})
    assert error(other, 409) == {"error": "key=a: was used for another request; take a new one", "field": "key"}
    theirs = api.post("/api/v1/jobs", json={"seed": 3, "key": "a"}, headers={"X-Champ-Client": BOB})
    assert theirs.json()["id"] != first
    both = api.post("/api/v1/jobs", json={"key": "b"}, headers={"Idempotency-Key": "a"})
    assert error(both, 422)["field"] == "key"
    assert error(api.post("/api/v1/jobs", json={"key": 3}), 422)["field"] == "key"


def test_errors_are_the_commands_lines_with_their_fields(api):
    id = submit(api, seed=FAILS)
    failed = wait_for(api, id)
    assert (failed["error"], failed["field"]) == ("motion=x: is not good", "motion")
    died = wait_for(api, submit(api, seed=DIES))
    assert (died["state"], died["attempts"]) == ("failed", 2)
    bad = error(api.post("/api/v1/jobs", json={"edits": {"scal": 2}}), 422)
    assert bad == {"error": "edits.scal: no such field, did you mean scale?", "field": "edits.scal"}
    bad = error(api.post("/api/v1/jobs", json={"steps": 0}), 422)
    assert bad["error"].startswith("steps=0: expected a whole number from 1")
    for body in (b"{", b"[" * 100_000, b"\xff", b'{"seed": ' + b"9" * 5000 + b"}", b"[]", b'{"key": "\\ud800"}'):
        error(api.post("/api/v1/jobs", content=body), 422)
    error(api.post("/api/v1/jobs", content=b" " * (2**20 + 1)), 413)
    error(api.get("/api/v1/nothing"), 404)
    error(api.put("/api/v1/jobs"), 405)
    error(api.get(f"/api/v1/jobs/{id}/results/video"), 409)
    assert "missing" in error(api.post("/api/v1/uploads", content=b"x"), 422)["error"]


def test_uploads_that_are_refused(api):
    large = api.post("/api/v1/uploads?name=a.png", content=b"x" * (2**20 + 1))
    assert "larger than the 1.0 MiB" in error(large, 413)["error"]
    announced = api.post("/api/v1/uploads?name=a.png", content=b"x" * (3 * 2**20))
    assert "larger than the 1 MiB" in error(announced, 413)["error"]

    def parts():
        for _ in range(64):
            yield b"x" * 2**16

    assert "larger than" in error(api.post("/api/v1/uploads?name=a.png", content=parts()), 413)["error"]
    broken = error(api.post("/api/v1/uploads?name=a.png", content=b"no picture"), 422)
    assert broken["error"].startswith("a.png: ")
    assert "/" not in broken["error"].split(";")[0]  # no place of the server
    unknown = error(api.post("/api/v1/uploads?name=a.exe", content=b"MZ"), 422)
    assert "its name must end in" in unknown["error"]
    workspace = api.app_state["service"].settings.workspace
    assert [*(workspace / "temporary").glob("u-*")] == []


def test_two_users_do_not_see_each_other(api, browser):
    id = submit(api, seed=5)
    wait_for(api, id)
    paths = [f"/api/v1/jobs/{id}{rest}" for rest in ("", "/events", "/preview", "/results/video", "/results/x")]
    for who in ({"X-Champ-Client": BOB}, {}):
        for path in paths:
            assert browser.get(path, headers=who).status_code == 404
        assert browser.post(f"/api/v1/jobs/{id}/cancel", headers=who).status_code == 404
        assert browser.delete(f"/api/v1/jobs/{id}", headers=who).status_code == 404
        assert id not in browser.get("/api/v1/jobs", headers=who).text
    assert api.get(f"/api/v1/jobs/{id}").status_code == 200


def test_a_browser_is_known_by_a_cookie_that_only_the_server_makes(api, browser):
    first = browser.get("/api/v1/about")
    cookie = first.headers["set-cookie"]
    for attribute in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="):
        assert attribute in cookie
    assert "Secure" not in cookie
    id = submit(browser)
    assert "set-cookie" not in browser.get(f"/api/v1/jobs/{id}").headers
    name, value = next(iter(browser.cookies.items()))
    browser.cookies.clear()
    assert browser.get(f"/api/v1/jobs/{id}").status_code == 404
    for forged in ("x" * 43, "x.y", value[:-1] + ("A" if value[-1] != "A" else "B"), value.split(".")[0]):
        answer = browser.get(f"/api/v1/jobs/{id}", headers={"Cookie": f"{name}={forged}"})
        assert answer.status_code == 404
        assert "set-cookie" in answer.headers
        browser.cookies.clear()
    # Cookies of other programs on this machine, however they look, do no harm.
    kept = browser.get(f"/api/v1/jobs/{id}", headers={"Cookie": f'a="{{}}; b=[1,2]; {name}={value}; c=,'})
    assert kept.status_code == 200
    secure = TestClient(api.app, base_url="https://localhost").get("/api/v1/about")
    assert "; Secure" in secure.headers["set-cookie"]


def test_a_client_cannot_name_an_owner(api):
    id = submit(api)
    owner = api.app_state["service"]._store.job(id)["owner"]
    stolen = api.get(f"/api/v1/jobs/{id}", headers={"X-Champ-Client": BOB, "X-Champ-Owner": owner})
    assert stolen.status_code == 404
    assert ALICE not in owner


@pytest.mark.parametrize("secret", ["short", "x" * 201, "with spaces in between"])
def test_secrets_of_programs_that_are_refused(api, secret):
    assert "16 to 200" in error(api.get("/api/v1/jobs", headers={"X-Champ-Client": secret}), 400)["error"]


def test_owners_depend_on_the_servers_key(tmp_path):
    one, other = Identities.open(tmp_path), Identities(b"x" * 32)
    assert Identities.open(tmp_path).owner("program", ALICE) == one.owner("program", ALICE)
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    owners = {one.owner("program", ALICE), one.owner("browser", ALICE), one.owner("program", BOB)}
    assert len(owners | {other.owner("program", ALICE)}) == 4
    assert one.knows(one.new_secret())
    assert not one.knows(other.new_secret())
    (tmp_path / "secret.key").write_bytes(b"short")
    with pytest.raises(InputError, match=r"secret.key: is not the key of a server"):
        Identities.open(tmp_path)


# Other sites


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "", "[", "localhost.x"]
)
def test_a_name_that_is_not_the_servers_is_refused(api, host):
    assert "is not a name of this server" in error(api.get("/api/v1/about", headers={"Host": host}), 421)["error"]
    assert api.get("/", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    "host", ["localhost:7860", "127.0.0.1", "[::1]:7860", "10.1.2.3", "a.localhost", "LOCALHOST", "animate.example.org"]
)
def test_names_of_the_server(api, tmp_path, host):
    named = settings(tmp_path, names=("animate.example.org",))
    made = TestClient(gate.Gate(api.app._app, named, Identities(b"k" * 32)))
    assert made.get("/api/v1/about", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_pages_of_other_sites_change_nothing(api, headers):
    before = api.get("/api/v1/jobs").json()
    assert "another site" in error(api.post("/api/v1/jobs", json={}, headers=headers), 403)["error"]
    error(api.delete("/api/v1/jobs/x", headers=headers), 403)
    assert api.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403
    assert api.get("/api/v1/jobs").json() == before


def test_the_servers_own_pages_may(api):
    own = {"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "same-origin"}
    assert api.post("/api/v1/jobs", json={}, headers=own).status_code == 201


# Secrets of the server


@pytest.fixture(scope="module")
def protected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protected")
    with service(folder, token=TOKEN, user="ann", password=PASSWORD) as opened:
        yield make_app(opened, opened.settings)


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer", 401),
        (_basic(f"ann:{PASSWORD}"), 200),
        (_basic(f"bob:{PASSWORD}"), 401),
        (_basic(f"ann:{PASSWORD}x"), 401),
        (_basic("ann"), 401),
        (_basic(TOKEN), 401),
        ("Basic ***", 401),
    ],
)
def test_who_is_let_in(protected, given, status):
    headers = {} if given is None else {"Authorization": given}
    made = TestClient(protected, base_url="http://localhost")
    for path in ("/api/v1/about", "/api/v1/docs", "/api/v1/openapi.json", "/"):
        answer = made.get(path, headers=headers)
        assert answer.status_code == status
        if status == 401:
            assert answer.headers["www-authenticate"].startswith("Basic ")
            assert "set-cookie" not in answer.headers


def test_a_browser_shows_the_token_once(api, tmp_path):
    door = gate.Gate(api.app._app, settings(tmp_path, token=TOKEN), Identities(b"k" * 32))
    made = TestClient(door, base_url="http://localhost", follow_redirects=False)
    form = made.get("/")
    assert form.status_code == 401
    assert '<input id="token"' in form.text
    wrong = made.post("/login", data={"token": "x"})
    assert (wrong.status_code, "This is not the token." in wrong.text) == (401, True)
    assert made.post("/login", data={"token": TOKEN}, headers={"Origin": "http://evil.example"}).status_code == 403
    assert made.post("/login", content=b"token=" + b"x" * 5000).status_code == 413
    right = made.post("/login", data={"token": TOKEN})
    assert (right.status_code, right.headers["location"]) == (303, ".")
    assert "HttpOnly" in right.headers["set-cookie"]
    assert TOKEN not in right.headers["set-cookie"]
    assert made.get("/api/v1/about").status_code == 200
    made.cookies.clear()
    assert made.get("/api/v1/about").status_code == 401


def test_secrets_are_compared_in_constant_time(protected, monkeypatch):
    compared = []
    monkeypatch.setattr(gate.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or False)
    TestClient(protected).get("/api/v1/about", headers={"Host": "localhost", "Authorization": f"Bearer {TOKEN}"})
    assert (TOKEN.encode(), TOKEN.encode()) in compared


# Nothing else is served


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/jobs/../../../jobs.sqlite",
        "/api/v1/jobs/%2e%2e%2f%2e%2e%2fsecret.key/results/video",
        "/gradio_api/file=/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=http://localhost/",
        "/workspace/secret.key",
        "/static/../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets//etc/passwd",
    ],
)
def test_nothing_outside_is_served(api, path):
    workspace = api.app_state["service"].settings.workspace
    for tried in (path, path.replace("/etc/passwd", str(workspace / "secret.key"))):
        answer = api.get(tried)
        assert answer.status_code in (400, 403, 404), answer.text[:200]
        assert b"root:" not in answer.content


def test_a_result_is_found_by_its_name_only(api):
    id = submit(api)
    wait_for(api, id)
    for name in ("animation.mp4", "..%2f..%2fsecret.key", "preview-1.png", "VIDEO"):
        error(api.get(f"/api/v1/jobs/{id}/results/{name}"), 404)
    assert error(api.get(f"/api/v1/jobs/{id}/results/nothing"), 404)["error"].startswith("nothing: there is no such")


# What it says of itself


def test_the_description_has_all_fields_and_the_page_shows_them(api):
    described = api.get("/api/v1/openapi.json").json()
    body = described["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    request = api.get("/api/v1/jobs").json()["jobs"][0]["request"]
    assert set(body["properties"]) == set(request)
    assert set(body["properties"]["edits"]["properties"]) == set(request["edits"])
    page = api.get("/api/v1/docs")
    assert "<script" not in page.text
    assert re.search(r"https?://", page.text) is None
    for path in described["paths"]:
        assert f"/api/v1{path}</code>" in page.text
    assert "<code>edits.move_depth</code>" in page.text


def test_it_says_what_there_is(api):
    about = api.get("/api/v1/about").json()
    assert "wave" in about["motions"]
    assert "built-in" in about["references"]
    assert about["limits"]["max_upload_mib"] == 1
