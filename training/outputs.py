"""Files of a run in OUT: checked before the run begins."""

from pathlib import Path
from typing import Any

from glam import model_file
from glam.datasets.prepare import UNREADABLE, UNREADABLE_COLUMNS
from glam.datasets.tables import header_of
from glam.output import OutputKind, check_not_input, check_output
from glam.training.run_end import COMPARISON, COMPARISON_FILE, RESULT, RESULT_FILE
from glam.training.teachers import MODEL_FILE


def check_outputs(config: Any) -> None:
    """Makes sure that the run replaces no input and no file of another kind.

    The folder may hold other files, since the log of a run is often redirected into it.

    Args:
        config: configuration of `glam train`.

    Raises:
        GlamError: an output would replace such a file, or cannot be written.
    """
    out = Path(config.out)
    data = [Path(source) for source in (config.data.train, config.data.val) if source is not None]
    check_not_input(out, data)
    models = [Path(name) for name in (config.weights, *config.teachers) if name is not None]
    check_output(out / MODEL_FILE, model_file.MODEL, models)
    check_output(out / CONFIG_FILE, CONFIG)
    check_output(out / COMPARISON_FILE, COMPARISON)
    check_output(out / RESULT_FILE, RESULT)
    check_output(out / UNREADABLE, UNREADABLE_LIST)


def _is_config(path: Path) -> bool:
    keys = {line.partition(":")[0] for line in path.read_text(encoding="utf-8").splitlines()}
    return keys >= {"trainer", "model", "data", "resume"}


CONFIG_FILE = "config.yaml"
CONFIG = OutputKind("the configuration of a run of `glam train`", _is_config)
UNREADABLE_LIST = OutputKind("a list of unreadable images", lambda path: header_of(path) == list(UNREADABLE_COLUMNS))
