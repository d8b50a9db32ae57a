"""Filters and facets beside other requests: neither delays them."""

import threading
import time

import pytest
from fastapi.testclient import TestClient

from glam.app.service import live_index
from glam.app.service.facets import facets
from glam.index import Index
from glam.index.limits import IndexLimits
from glam.index.storage.checksums import delete_checksums

from .colors import ColorModel, app_of, found, refused, wait_until


def test_a_filter_that_runs_delays_no_other_request(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = threading.Event(), threading.Event()
    evaluate = Index.filter_mask

    def slowly(index: Index, where: str) -> object:
        if "slow" in where:
            begun.set()
            assert may_end.wait(20)
        return evaluate(index, where)

    monkeypatch.setattr(Index, "filter_mask", slowly)
    answers: list[list[str]] = []
    url = "/api/images/0/search"
    slow = threading.Thread(target=lambda: answers.append(found(client.get(url, params={"where": "kind != 'slow'"}))))
    slow.start()
    try:
        assert begun.wait(10)
        assert len(found(client.get(url))) == 3
        for path in ("/api/images/1", "/api/images/1/thumbnail", "/api/images/1/file", "/api/filters", "/api/info"):
            assert client.get(path).status_code == 200, path
        assert not answers
    finally:
        may_end.set()
        slow.join()
    assert len(answers[0]) == 3


def test_the_connection_of_filters_is_their_own(index: Index) -> None:
    with index._filter_lock:  # a filter is being evaluated
        assert index.entry(1).path == "green.png"
        assert len(index.search(index.descriptor(0), 4)[0]) == 4


def test_closing_an_index_stops_its_filter(index: Index) -> None:
    texts = " || ".join(f"replace(path, 'a', '{i}')" for i in range(200))
    connection = index._filter_catalog.connection
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) INSERT INTO images SELECT"
        " n.i + 100, n.i, label, width, height, hash, bytes, modified, metadata, state FROM images, n WHERE id = 1"
    )
    failures: list[Exception] = []

    def evaluate() -> None:
        try:
            index.filter_mask(f"length({texts}) > 0")
        except Exception as error:  # noqa: BLE001  (examined below)
            failures.append(error)

    thread = threading.Thread(target=evaluate)
    thread.start()
    wait_until(index._filter_lock.locked)
    time.sleep(0.1)
    began = time.monotonic()
    index.close()
    thread.join()
    assert time.monotonic() - began < 5
    assert "cannot be used" in str(failures[0])


def test_a_filter_that_takes_too_long_is_422(index: Index, model: ColorModel) -> None:
    with (
        Index.open(index.path, limits=IndexLimits(filter_seconds=0)) as hasty,
        TestClient(app_of(hasty, model)) as client,
    ):
        for fields in ({"where": "width > 1"}, {"where": "width > 1", "rerank": "aqe"}):
            assert "took more than" in refused(client.get("/api/images/0/search", params=fields), 422)
        assert len(found(client.get("/api/images/0/search"))) == 3


def test_facets_are_computed_once_for_all_who_wait(
    index: Index, model: ColorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    may_end = threading.Event()

    def slowly(path: object) -> object:
        calls.append(path)
        assert may_end.wait(20)
        return facets(index.path)

    monkeypatch.setattr(live_index, "facets", slowly)
    with TestClient(app_of(index, model)) as client:
        names: list[list[str]] = []

        def ask() -> None:
            names.append([column["name"] for column in client.get("/api/filters").json()["columns"]])

        threads = [threading.Thread(target=ask) for _ in range(50)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: client.app.state.glam.in_flight.count == 50)  # type: ignore[attr-defined]
            assert client.get("/api/images/1").status_code == 200  # no thread is taken by those who wait
        finally:
            may_end.set()
        for thread in threads:
            thread.join()
    assert len(calls) == 1
    assert all("kind" in columns for columns in names)
    assert len(names) == 50


def test_facets_that_failed_are_computed_by_the_next_request(
    index: Index, model: ColorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = index.path / "catalogue.sqlite"
    with TestClient(app_of(index, model)) as client:
        catalog.rename(index.path / "away")
        answer = client.get("/api/filters")
        assert str(index.path) not in refused(answer, 503)
        (index.path / "away").rename(catalog)
        assert client.get("/api/filters").status_code == 200


def test_metadata_named_like_a_column_are_hidden_by_it(index: Index) -> None:
    index._catalog.connection.execute("UPDATE images SET metadata = json_set(metadata, '$.width', 'x', '$.Label', 'y')")
    delete_checksums(index.path)
    columns = {column.name: column for column in facets(index.path)}
    assert columns["width"].kind == "number"
    assert "Label" not in columns
