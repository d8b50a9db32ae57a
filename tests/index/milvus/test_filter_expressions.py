"""Filter expressions for Milvus: they have a bounded length and match exactly the allowed ids."""

import sqlite3

import numpy as np
import pytest

from glam.index.limits import MilvusLimits
from glam.index.milvus.filter_expressions import IdBlock, IdCondition, split_blocks


def met(image_ids: list[int], condition: IdCondition) -> list[int]:
    """Ids that meet a condition, evaluated by SQLite."""
    text = condition.as_text().expression.replace("[", "(").replace("]", ")")
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE rows (id INTEGER)")
        connection.executemany("INSERT INTO rows VALUES (?)", [(image_id,) for image_id in image_ids])
        matched = [image_id for (image_id,) in connection.execute(f"SELECT id FROM rows WHERE {text} ORDER BY id")]
    connection.close()
    return matched


@pytest.mark.parametrize("seed", range(30))
def test_conditions_match_exactly_the_allowed_ids(seed: int) -> None:
    random = np.random.default_rng(seed)
    image_ids = np.sort(random.choice(1000, 200, replace=False)).astype(np.int64)
    allowed = random.random(200) < random.choice([0.02, 0.5, 0.98])
    for _ in range(seed % 4):
        first = int(random.integers(200))
        allowed[first : first + int(random.integers(60))] ^= True
    blocks = list(split_blocks(IdBlock(image_ids, allowed, MilvusLimits(listed_ids=20)), most=50))
    conditions = [block.condition for block in blocks]
    matched = [met(image_ids.tolist(), condition) for condition in conditions]
    assert [image_id for block_ids in matched for image_id in block_ids] == image_ids[allowed].tolist()
    assert all(len(block_ids) <= 50 for block_ids in matched)
    for condition in conditions:
        assert len(condition.listed) <= 20
        expression, parameters = condition.as_template()
        filled = expression.replace("{listed}", str(parameters.get("listed")))
        assert filled == condition.as_text().expression


def test_a_large_filter_is_a_short_expression() -> None:
    image_ids = np.arange(1_000_000) * 2
    for allowed, most in (
        (np.ones(1_000_000, bool), 0),
        (np.arange(1_000_000) < 500_000, 0),
        (np.arange(1_000_000) // 50_000 % 2 == 0, 0),
        (np.arange(1_000_000) % 1_000 != 0, 1_000),
        (np.arange(1_000_000) % 1_000 == 0, 1_000),
    ):
        block = IdBlock(image_ids, allowed)
        (only,) = split_blocks(block)
        condition = only.condition
        assert len(condition.listed) <= most
        assert len(condition.as_text().expression) < 2_000 + 9 * most
    worst = list(split_blocks(IdBlock(image_ids, np.random.default_rng(0).random(1_000_000) < 0.5)))
    assert len(worst) == 8
    assert all(len(block.condition.as_text().expression) < 1_000_000 for block in worst)
    assert not list(split_blocks(IdBlock(image_ids, np.zeros(1_000_000, bool))))
