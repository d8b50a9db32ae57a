"""Many requests at a time: batches of uploads, a full queue, what takes too long."""

import threading
import time

from fastapi.testclient import TestClient
from PIL import Image

from glam.app.service.settings import ServiceLimits
from glam.index import Index

from .colors import BLUE, RED, ColorModel, app_of, encoded, found, halves, refused, upload, wait_until


def test_uploads_of_one_moment_go_through_the_network_together_and_other_requests_go_on(
    client: TestClient, model: ColorModel
) -> None:
    network = model.network
    network.may_finish.clear()
    answers: list[list[str]] = []

    def search(color: tuple[int, int, int]) -> None:
        answers.append(found(upload(client, encoded(Image.new("RGB", (40, 20), color)))))

    uploads = [threading.Thread(target=search, args=((i, 220, i),)) for i in range(6)]
    uploads[0].start()
    wait_until(lambda: network.running == 1)
    for thread in uploads[1:]:
        thread.start()
    try:
        waiting = client.app.state.glam.describer._network  # type: ignore[attr-defined]
        wait_until(lambda: len(waiting) == 5)
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/images/0/thumbnail").status_code == 200
        assert client.get("/api/images/0/search").status_code == 200
    finally:
        network.may_finish.set()
    for thread in uploads:
        thread.join()
    assert [answer[0] for answer in answers] == ["green"] * 6
    assert (network.batches, network.most_running) == ([1, 5], 1)


def test_a_batch_of_one_takes_each_upload_by_itself(index: Index, model: ColorModel) -> None:
    with TestClient(app_of(index, model, ServiceLimits(batch=1, window_seconds=0.05))) as client:
        data = [encoded(Image.new("RGB", (40, 20), (i, 0, 0))) for i in range(4)]
        uploads = [threading.Thread(target=upload, args=(client, image)) for image in data]
        for thread in uploads:
            thread.start()
        for thread in uploads:
            thread.join()
    assert model.network.batches == [1, 1, 1, 1]


def test_a_full_queue_is_answered_with_503_and_when_to_come_back(index: Index, model: ColorModel) -> None:
    with TestClient(app_of(index, model, ServiceLimits(uploads=2))) as client:
        model.network.may_finish.clear()
        data = [encoded(Image.new("RGB", (40, 20), (i, 0, 0))) for i in range(3)]
        running = [threading.Thread(target=upload, args=(client, image)) for image in data[:2]]
        for thread in running:
            thread.start()
        try:
            wait_until(lambda: client.app.state.glam.in_flight.count == 2)  # type: ignore[attr-defined]
            time.sleep(0.1)
            answer = upload(client, data[2])
            refused(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
        finally:
            model.network.may_finish.set()
        for thread in running:
            thread.join()
        found(upload(client, data[2]))


def test_a_request_that_takes_too_long_is_given_up_with_503(index: Index, model: ColorModel) -> None:
    with TestClient(app_of(index, model, ServiceLimits(request_seconds=0.2))) as client:
        model.network.may_finish.clear()
        try:
            answer = upload(client, encoded(halves(RED, BLUE)))
            assert "0.2 seconds" in refused(answer, 503)
            assert answer.headers["retry-after"]
        finally:
            model.network.may_finish.set()
        found(upload(client, encoded(halves(RED, BLUE))))


def test_an_upload_that_was_described_before_needs_no_model(client: TestClient, model: ColorModel) -> None:
    data = encoded(halves(RED, BLUE))
    first = found(upload(client, data))
    assert found(upload(client, data, skip=1)) == first[1:]
    assert found(upload(client, data, where="landmark != 'red'")) == [
        landmark for landmark in first if landmark != "red"
    ]
    assert model.calls == 1
    found(upload(client, data, x1=0, y1=0, x2=20, y2=20))
    assert model.calls == 2


def test_a_queue_that_is_closed_is_answered_with_503_and_when_to_come_back(index: Index, model: ColorModel) -> None:
    with TestClient(app_of(index, model)) as client:
        client.app.state.glam.describer.close()  # type: ignore[attr-defined]
        answer = upload(client, encoded(halves(RED, BLUE)))
        assert refused(answer, 503) == "The service is shutting down. Try again in a few seconds."
        assert answer.headers["retry-after"] == "5"
