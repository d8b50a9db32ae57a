"""Generated landmarks: files on disk, reproducibility, and the geometry of the renderer."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from glam.datasets.synthetic import generate
from glam.datasets.synthetic.canvas import FLAT, Canvas, Texture, masonry
from glam.datasets.synthetic.landmarks import KINDS
from glam.datasets.synthetic.light import shadow_map
from glam.datasets.synthetic.render import Atlas, Geometry, clip, look, look_at, rasterize
from glam.datasets.synthetic.scenes import Scene, build_scene
from glam.datasets.synthetic.sites import Site
from glam.datasets.synthetic.solids import Mesh
from glam.datasets.synthetic.studio import Studio
from glam.datasets.synthetic.styles import random_style
from glam.errors import GlamError


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three landmarks, eight images each, 96 pixels."""
    folder = tmp_path_factory.mktemp("set")
    return generate(folder, landmarks=3, images_per_landmark=8, size=96, seed=5, workers=1)


def one_color(red: int, green: int, blue: int) -> Texture:
    """A small flat texture."""
    color = np.full((16, 16, 3), (red, green, blue), np.uint8)
    return Texture(color, np.full((16, 16), FLAT, np.uint8), np.zeros((16, 16), np.uint8))


def test_files_stand_in_one_folder_a_landmark(small_set: list[Path]) -> None:
    names = [f"{file.parent.name}/{file.name}" for file in small_set]
    assert len(names) == 24
    assert names[0] == "landmark_00000/0000.jpg"
    assert names[-1] == "landmark_00002/0007.jpg"


def test_every_file_opens_and_its_longest_side_is_the_size(small_set: list[Path]) -> None:
    for file in small_set:
        with Image.open(file) as image:
            image.load()
            assert image.format == "JPEG"
            assert image.mode == "RGB"
            assert max(image.size) == 96


def test_images_lie_and_stand_and_vary_in_aspect(small_set: list[Path]) -> None:
    sizes = set()
    for file in small_set:
        with Image.open(file) as image:
            sizes.add(image.size)
    assert len(sizes) >= 4
    assert any(width > height for width, height in sizes)
    assert any(width < height for width, height in sizes)


def test_no_image_is_blank(small_set: list[Path]) -> None:
    for file in small_set:
        assert np.asarray(Image.open(file)).std() > 8, file


def test_the_same_arguments_give_the_same_bytes_with_any_number_of_workers(
    small_set: list[Path], tmp_path: Path
) -> None:
    again = generate(tmp_path, landmarks=3, images_per_landmark=8, size=96, seed=5, workers=2)
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in small_set]


def test_a_landmark_does_not_depend_on_what_else_is_generated(small_set: list[Path], tmp_path: Path) -> None:
    (file,) = generate(tmp_path, landmarks=1, images_per_landmark=1, size=96, seed=5, first_landmark=2, workers=1)
    assert file.parent.name == "landmark_00002"
    assert file.read_bytes() == small_set[16].read_bytes()


def test_another_seed_gives_other_landmarks(small_set: list[Path], tmp_path: Path) -> None:
    (file,) = generate(tmp_path, landmarks=1, images_per_landmark=1, size=96, seed=6, workers=1)
    assert file.read_bytes() != small_set[0].read_bytes()


def test_images_of_a_landmark_all_differ(small_set: list[Path]) -> None:
    assert len({file.read_bytes() for file in small_set}) == len(small_set)


def test_progress_counts_images(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate(
        tmp_path, landmarks=2, images_per_landmark=1, size=64, workers=1, progress=lambda *counts: seen.append(counts)
    )
    assert seen == [(1, 2), (2, 2)]


def test_a_broken_off_run_can_be_taken_up(tmp_path: Path) -> None:
    first = generate(tmp_path, landmarks=1, images_per_landmark=2, size=64, workers=1)
    bytes_before = [file.read_bytes() for file in first]
    first[1].unlink()
    assert [f.read_bytes() for f in generate(tmp_path, landmarks=1, images_per_landmark=2, size=64, workers=1)] == (
        bytes_before
    )


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"landmarks": 0}, "landmarks"),
        ({"images_per_landmark": 0}, "images per landmark"),
        ({"size": 8}, "size"),
        ({"size": 5000}, "size"),
        ({"seed": -1}, "seed"),
        ({"first_landmark": -1}, "first landmark"),
        ({"workers": 0}, "workers"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_with_a_sentence(
    tmp_path: Path, changed: dict[str, int], word: str
) -> None:
    arguments = {"landmarks": 1, "images_per_landmark": 1, **changed}
    with pytest.raises(GlamError, match=word) as refusal:
        generate(tmp_path / "new", **arguments)  # type: ignore[arg-type]
    assert str(refusal.value).endswith(".")
    assert not (tmp_path / "new").exists()


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    note = tmp_path / "deep" / "notes.txt"
    note.parent.mkdir()
    note.write_text("mine")
    with pytest.raises(GlamError, match=r"notes\.txt"):
        generate(tmp_path, landmarks=1, images_per_landmark=1)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [note]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"")
    with pytest.raises(GlamError, match="is a file"):
        generate(file, landmarks=1, images_per_landmark=1)


def test_a_folder_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GlamError, match="cannot write"):
        generate(tmp_path / "file" / "set", landmarks=1, images_per_landmark=1, size=64, workers=1)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_stands_on_the_ground_and_has_details(kind) -> None:  # type: ignore[no-untyped-def]
    for seed in range(4):
        rng = np.random.default_rng(seed)
        site = Site(Mesh(), random_style(rng), rng)
        kind(site)
        corners = np.concatenate([face.corners for face in site.mesh.faces])
        assert abs(corners[:, 2].min()) < 0.1
        assert 8 < corners[:, 2].max() < 110
        assert len(site.details) >= 1
        assert all(0 <= face.texture < len(site.mesh.textures) for face in site.mesh.faces)
        assert np.isfinite([face.normal for face in site.mesh.faces]).all()


def test_a_scene_is_a_function_of_its_seed() -> None:
    one, same, other = build_scene((0, 3)), build_scene((0, 3)), build_scene((0, 4))

    def walls(scene: Scene) -> list[bytes]:
        return [texture.color.tobytes() for texture in scene.mesh.textures]

    assert walls(one) == walls(same)
    assert np.array_equal(Geometry(one.mesh).corners, Geometry(same.mesh).corners)
    assert walls(one)[0] != walls(other)[0]


def test_two_views_share_the_scene_and_two_landmarks_do_not() -> None:
    """Seen by the same camera, a scene in other light is more similar to itself than to another scene."""

    def edges(seed: int, ground: int) -> np.ndarray:
        scene = build_scene((0, seed))
        studio = Studio(scene)
        studio.geometry.textures[scene.ground] = scene.grounds[ground]
        camera = look_at(np.array([4.0, -40, 2]), np.array([0.0, 0, 9]), roll=0, focal=150, width=160, height=120)
        gray = cv2.cvtColor(np.dstack(look(studio.geometry, studio.atlas, camera).color), cv2.COLOR_RGB2GRAY)
        steep = np.abs(cv2.Laplacian(gray.astype(np.float32), cv2.CV_32F))[:80].ravel()
        normal: np.ndarray = (steep - steep.mean()) / steep.std()
        return normal

    same = (edges(1, 0) * edges(1, 3)).mean()
    assert same > 0.9
    assert all((edges(1, 0) * edges(other, 0)).mean() < 0.6 for other in (2, 3, 4))


def test_the_nearer_face_hides_the_farther_one() -> None:
    mesh = Mesh()
    red, green = mesh.add(one_color(200, 0, 0)), mesh.add(one_color(0, 200, 0))
    mesh.quad((-4, 10, 4), (8, 0, 0), (0, 0, -8), green)
    mesh.quad((-1, 5, 1), (2, 0, 0), (0, 0, -2), red)
    camera = look_at(np.array([0.0, 0, 0]), np.array([0.0, 1, 0]), roll=0, focal=50, width=100, height=100)
    layers = look(Geometry(mesh), Atlas(mesh.textures), camera)
    assert layers.color[0][50, 50] == 200
    assert layers.color[1][50, 65] == 200
    assert layers.sky[2, 2]
    assert layers.depth[50, 50] == pytest.approx(5, rel=1e-4)
    assert layers.depth[50, 65] == pytest.approx(10, rel=1e-4)


def test_textures_are_the_right_way_round() -> None:
    mesh = Mesh()
    texture = one_color(0, 0, 0)
    texture.color[:8, 8:] = 250  # the upper right quarter is white
    mesh.quad((-2, 5, 2), (4, 0, 0), (0, 0, -4), mesh.add(texture))
    camera = look_at(np.array([0.0, 0, 0]), np.array([0.0, 1, 0]), roll=0, focal=50, width=60, height=60)
    red = look(Geometry(mesh), Atlas(mesh.textures), camera).color[0]
    assert red[20, 40] > 200
    assert max(red[20, 20], red[40, 20], red[40, 40]) < 50


def test_rasterize_agrees_with_asking_every_pixel_of_every_triangle() -> None:
    rng = np.random.default_rng(0)
    triangles = rng.uniform(0, 40, (12, 3, 2))
    planes = np.column_stack([rng.normal(0, 0.01, (12, 2)), rng.uniform(1, 5, 12)])
    starts = np.arange(0, 37, 3)
    _, winner = rasterize(triangles.reshape(-1, 2), starts, planes, 40, 40)
    outlines = [triangle.astype(np.float32)[:, None] for triangle in triangles]
    compared = 0
    for y in range(40):
        for x in range(40):
            inside = [cv2.pointPolygonTest(outline, (x, y), True) for outline in outlines]
            if min(map(abs, inside)) < 1.6:  # pixels on an edge may belong to either polygon
                continue
            near = [(planes[number] @ (x, y, 1), number) for number, distance in enumerate(inside) if distance > 0]
            assert winner[y, x] == max(near, default=(0, -1))[1]
            compared += 1
    assert compared > 300


def test_clip_keeps_the_half_in_front() -> None:
    square = np.array([(-1.0, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)])
    half = clip(square, np.array([1.0, 0, 0]), 0.0)
    assert half[:, 0].min() == pytest.approx(0)
    assert half[:, 0].max() == pytest.approx(1)
    assert len(clip(square, np.array([1.0, 0, 0]), 2.0)) == 0


def test_the_sun_does_not_reach_behind_a_wall() -> None:
    mesh = Mesh()
    stone = mesh.add(one_color(90, 90, 90))
    mesh.polygon([(-40, -40, 0), (40, -40, 0), (40, 40, 0), (-40, 40, 0)], (-40, 40, 0), (80, 0, 0), (0, -80, 0), stone)
    mesh.quad((-5, 0, 10), (10, 0, 0), (0, 0, -10), stone)
    sun = np.array([0.0, -1, 1]) / np.sqrt(2)
    nearness, to_sun = shadow_map(Geometry(mesh), sun, np.zeros(3))

    def shaded(point: tuple[float, float, float]) -> bool:
        x, y, height = to_sun @ (*point, 1.0)
        return bool(nearness[round(y), round(x)] > height + 0.4)

    assert shaded((0, 4, 0))
    assert not shaded((0, -4, 0))
    assert not shaded((9, 4, 0))


def test_a_canvas_draws_where_it_is_told_in_meters_from_the_lower_left() -> None:
    rng = np.random.default_rng(0)
    canvas = Canvas(rng, 10, 5, masonry(rng, scale=10, block=(1, 1), contrast=0, size=128), (100, 100, 100))
    canvas.rectangle(1, 1, 2, 1, (255, 0, 0), relief=10)
    texture = canvas.texture()
    assert texture.color.shape == (50, 100, 3)
    assert tuple(texture.color[35, 20]) == (255, 0, 0)
    assert texture.relief[35, 20] == FLAT + 10
    assert texture.color[15, 20, 1] > 50
