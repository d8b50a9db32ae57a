"""Registry of the data sets that `glam data download` offers: addresses, checksums, and layout on disk.

The layouts are those that `glam.datasets.readers` reads. Checksums are listed if they are published.
"""

from dataclasses import dataclass

from glam.errors import GlamError


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        path: path of the file, relative to the folder of the data set.
        addresses: URLs of the file; the first one that works is used.
        checksum: ``md5:`` or ``sha256:`` followed by the hexadecimal digest; empty if unknown.
        checksum_address: URL of a text file that contains the md5; empty if there is none.
        unpack_to: folder that an archive is unpacked into, relative to the folder of the data set; None if the file is
            not an archive.
        flat: whether the folders inside the archive are dropped.
    """

    path: str
    addresses: tuple[str, ...]
    checksum: str = ""
    checksum_address: str = ""
    unpack_to: str | None = None
    flat: bool = False


@dataclass(frozen=True)
class DataSet:
    """A data set that can be downloaded.

    Attributes:
        name: argument of `glam data download`.
        about: description with size, source, and license.
        files: its files, small ones first.
    """

    name: str
    about: str
    files: tuple[Remote, ...]


_OXFORD = ("https://www.robots.ox.ac.uk/~vgg/data/oxbuildings/", "https://thor.robots.ox.ac.uk/oxbuildings/")
_PARIS = (
    "https://www.robots.ox.ac.uk/~vgg/data/parisbuildings/",
    "https://thor.robots.ox.ac.uk/datasets/paris-buildings/",
)
_CMP = ("https://cmp.felk.cvut.cz/", "http://cmp.felk.cvut.cz/")
_R1M = ("http://ptak.felk.cvut.cz/revisitop/revisitop1m/",)
_GLDV2 = "https://s3.amazonaws.com/google-landmark/"


def _urls(hosts: tuple[str, ...], *paths: str) -> tuple[str, ...]:
    return tuple(host + path for path in paths for host in hosts)


def _ground_truth(name: str) -> Remote:
    file = f"gnd_{name}.pkl"
    paths = (f"revisitop/data/datasets/{name}/{file}", f"cnnimageretrieval/data/test/{name}/{file}")
    return Remote(file, _urls(_CMP, *paths))


def _image_archive(hosts: tuple[str, ...], archive: str) -> Remote:
    return Remote(archive, _urls(hosts, archive), unpack_to="jpg", flat=True)


def _gldv2_table(name: str) -> Remote:
    return Remote(name, (f"{_GLDV2}metadata/{name}",))


def _gldv2_part(number: int) -> Remote:
    name = f"images_{number:03d}"
    return Remote(
        f"{name}.tar",
        (f"{_GLDV2}train/{name}.tar",),
        checksum_address=f"{_GLDV2}md5sum/train/md5.{name}.txt",
        unpack_to="train",
    )


def _r1m_part(number: int) -> Remote:
    name = f"revisitop1m.{number}.tar.gz"
    return Remote(name, _urls(_R1M, f"jpg/{name}"), unpack_to="jpg")


DATA_SETS = (
    DataSet(
        "roxford5k",
        "Revisited Oxford: 4,993 images and 70 queries, 2 GB; cmp.felk.cvut.cz/revisitop",
        (_ground_truth("roxford5k"), _image_archive(_OXFORD, "oxbuild_images-v1.tgz")),
    ),
    DataSet(
        "rparis6k",
        "Revisited Paris: 6,322 images and 70 queries, 2.5 GB; cmp.felk.cvut.cz/revisitop",
        (
            _ground_truth("rparis6k"),
            _image_archive(_PARIS, "paris_1-v1.tgz"),
            _image_archive(_PARIS, "paris_2-v1.tgz"),
        ),
    ),
    DataSet(
        "revisitop1m",
        "R1M: the million distractors of Revisited Oxford and Paris, 100 archives; cmp.felk.cvut.cz/revisitop",
        (Remote("revisitop1m.txt", _urls(_R1M, "revisitop1m.txt")), *(_r1m_part(i) for i in range(1, 101))),
    ),
    DataSet(
        "gldv2",
        "Google Landmarks v2, training part: 4.1 million images under CC BY, 500 GB, with the clean list of 1.6 "
        "million; github.com/cvdfoundation/google-landmark",
        (
            *(_gldv2_table(name) for name in ("train_clean.csv", "train.csv", "train_attribution.csv")),
            *(_gldv2_part(i) for i in range(500)),
        ),
    ),
    DataSet(
        "sfm120k",
        "SfM-120k, for training: images of 713 three-dimensional models; cmp.felk.cvut.cz/cnnimageretrieval",
        (
            Remote("retrieval-SfM-120k.pkl", _urls(_CMP, "cnnimageretrieval/data/train/dbs/retrieval-SfM-120k.pkl")),
            Remote("ims.tar.gz", _urls(_CMP, "cnnimageretrieval/data/train/ims/ims.tar.gz"), unpack_to="ims"),
        ),
    ),
)


def find(name: str) -> DataSet:
    """Finds a data set by its name.

    Raises:
        GlamError: there is no data set of this name.
    """
    for data_set in DATA_SETS:
        if data_set.name == name:
            return data_set
    raise GlamError(f"No data set is called {name!r}. Choose one of {', '.join(known.name for known in DATA_SETS)}.")
