"""Names of landmarks that are folders for sorting."""

from pathlib import Path

import pytest

from glam.datasets.collection import Collection, ImageFile, LandmarkFrom
from glam.datasets.scan import landmark_of
from glam.datasets.workflow_folders import workflow_folders


def of_folders(*folders: str, landmark_from: LandmarkFrom = "folder") -> Collection:
    paths = [f"{folder}/1.jpg" for folder in folders]
    return Collection(Path(), tuple(ImageFile(path, landmark_of(path, landmark_from)) for path in paths))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "edited",
            "Edited",
            "unsorted",
            "New Folder",
            "New folder (2)",
            "originals",
            "misc",
            "Camera",
            "DCIM",
            "TODO",
        ),
        *(
            "100APPLE",
            "101MSDCF",
            "102_PANA",
            "2019",
            "1987",
            "2019-07",
            "201907",
            "2019_07_14",
            "20190714",
            "2019.7.4",
        ),
        *("2019 July", "July 2019", "07-2019", "14.07.2019", "backup 3"),
    ],
)
def test_a_folder_for_sorting_is_recognized(name: str) -> None:
    assert workflow_folders(of_folders(name)) == (name,)


@pytest.mark.parametrize(
    "name",
    [
        *("Petra", "Colosseum", "2019 Rome", "Camera Obscura", "0042", "landmark 0", "12345678", "3019"),
        *("Museum 1900-1950", "May", "edited volumes", "100", "Mayor 2019", "Piazza 20 Settembre", "generated_0007"),
    ],
)
def test_a_landmark_is_not_taken_for_one(name: str) -> None:
    assert workflow_folders(of_folders(name)) == ()


def test_any_folder_on_the_path_counts_if_it_is_part_of_the_name() -> None:
    folders = ("2019/Petra", "2020/Petra", "Rome/edited")
    assert workflow_folders(of_folders(*folders)) == ("2019", "2020", "edited")
    assert workflow_folders(of_folders(*folders, landmark_from="parent")) == ("edited",)
    assert workflow_folders(of_folders(*folders, landmark_from="none")) == ()


def test_a_name_that_a_list_gives_is_a_name() -> None:
    listed = Collection(Path(), (ImageFile("0/1/2/012.jpg", "2019"), ImageFile("2020/1.jpg", "Petra")))
    assert workflow_folders(listed) == ()
    assert workflow_folders(Collection(Path(), (ImageFile("2019/1.jpg", "2019"),))) == ("2019",), "as prepare writes it"
