"""Readers of files, on tiny files in the true formats, whole and damaged."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netfl.errors import DataError, MissingExtraError, NetflError
from netfl.learning.data import DataSource
from netfl.learning.datasets import files, tables
from netfl.learning.datasets.hub import HuggingFace, Parquet
from netfl.learning.datasets.images import Cifar10, Cifar100, FashionMnist, ImageFolder, Mnist
from netfl.learning.datasets.pickles import read_pickle
from netfl.learning.datasets.sensors import UciHar
from netfl.learning.datasets.tables import Csv, Npz
from netfl.learning.datasets.texts import Text
from netfl.randomness import Streams

STREAM = Streams(seed=1).stream("data")
GENERATOR = np.random.default_rng(0)


def idx(values: np.ndarray) -> bytes:
    """LeCun's format: 0, 0, type 8 (unsigned byte), axes, each length as a big-endian 32-bit number, then the data row by row."""
    return bytes([0, 0, 8, values.ndim]) + b"".join(side.to_bytes(4, "big") for side in values.shape) + values.astype(np.uint8).tobytes()


IMAGES = GENERATOR.integers(0, 256, (20, 28, 28))
LABELS = np.arange(20) % 10


def mnist_folder(folder: Path, packed: bool = False, dotted: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for part, count in (("train", 20), ("t10k", 10)):
        for name, values in (("images-idx3", IMAGES[:count]), ("labels-idx1", LABELS[:count])):
            stem = f"{part}-{name}-ubyte"
            path = folder / (stem.replace("-idx", ".idx") if dotted else stem)
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(values)))
            else:
                path.write_bytes(idx(values))
    return folder


@pytest.mark.parametrize("form", [{}, {"packed": True}, {"dotted": True}])
def test_mnist(tmp_path: Path, form: dict[str, bool]) -> None:
    data = Mnist(path=str(mnist_folder(tmp_path, **form))).load(STREAM)
    assert data.train_inputs.shape == (20, 1, 28, 28)
    assert data.train_inputs.dtype == np.float32
    assert np.array_equal(data.train_inputs[:, 0], (IMAGES / 255).astype(np.float32))
    assert data.train_labels.tolist() == LABELS.tolist()
    assert data.train_labels.dtype == np.int64
    assert len(data.test_labels) == 10
    assert FashionMnist(path=str(tmp_path)).load(STREAM).class_names[9] == "ankle boot"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # 16 bytes of head + 20 * 28 * 28 = 15,696 bytes
        (lambda data: data[:1000], r"train-images-idx3-ubyte: ends at byte 1000; expected 15696 bytes for 20 x 28 x 28 pixels"),
        (lambda data: data[:7], r"ends at byte 7; expected 16 bytes for its head"),
        (lambda data: b"", r"ends at byte 0"),
        (lambda data: data + b"x", r"byte 15696: expected the end of the file"),
        (lambda data: b"\x89PNG" + data[4:], r"byte 0: expected 00 00 08 03 .* got 89 50 4e 47"),
        (lambda data: data[:4] + b"\xff\xff\xff\xff" + data[8:], r"says that it holds 4294967295 x 28 x 28 pixels.*reads at most"),
        (lambda data: data[:4] + bytes(4) + data[8:], r"byte 4: says that it holds 0 x 28 x 28 pixels"),
        (lambda data: idx(IMAGES[:, :14]), r"byte 8: expected images of 28 x 28, got 14 x 28"),
        (lambda data: idx(IMAGES[:19]), r"train-labels-idx1-ubyte: byte 4: 20 labels for the 19 images of train-images"),
        (lambda data: gzip.compress(data)[:-20], r"damaged after \d+ \(unpacked\) bytes"),
        (lambda data: gzip.compress(data)[:50] + bytes(50) + gzip.compress(data)[100:], r"damaged after"),
    ],
)
def test_damaged_mnist(tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    path = mnist_folder(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        Mnist(path=str(tmp_path)).load(STREAM)


def test_a_label_that_is_none(tmp_path: Path) -> None:
    path = mnist_folder(tmp_path) / "t10k-labels-idx1-ubyte"
    data = bytearray(path.read_bytes())
    data[8 + 3] = 12
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte: byte 11: expected a label from 0 to 9, got 12"):
        Mnist(path=str(tmp_path)).load(STREAM)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """The head says how long the file is: nothing behind that is unpacked, however much there is."""
    path = mnist_folder(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(idx(IMAGES) + bytes(50_000_000)))
    with pytest.raises(DataError, match="byte 15696: expected the end of the file"):
        Mnist(path=str(tmp_path)).load(STREAM)


def test_absent_data_is_missing_rather_than_wrong(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"the data folder '.*absent' does not exist; put the four IDX files"):
        Mnist(path=str(tmp_path / "absent")).load(STREAM)
    (mnist_folder(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(MissingExtraError, match=r"has no file 't10k-labels-idx1-ubyte' \(nor 't10k-labels-idx1-ubyte.gz'"):
        Mnist(path=str(tmp_path)).identity()


def test_no_path_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = mnist_folder(tmp_path / "data")
    (tmp_path / "secret").write_bytes(idx(LABELS))
    (folder / "train-labels-idx1-ubyte").unlink()
    (folder / "train-labels-idx1-ubyte").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="a link that leads out of the folder"):
        Mnist(path=str(folder)).load(STREAM)
    (tmp_path / "link").symlink_to(mnist_folder(tmp_path / "other"))  # the folder itself may be one
    assert len(Mnist(path=str(tmp_path / "link")).load(STREAM).train_labels) == 20


# --- CIFAR ------------------------------------------------------------------------------------------------------------------

PIXELS = GENERATOR.integers(0, 256, (10, 3072)).astype(np.uint8)


def old_pickle(entries: dict[bytes, Any]) -> bytes:
    """As Python 2 with an old numpy wrote the archives: protocol 2, byte strings, and numpy.core.multiarray._reconstruct."""
    out = io.BytesIO()
    out.write(b"\x80\x02}q\x01(")

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + len(value).to_bytes(4, "little") + value

    for key, value in entries.items():
        out.write(text(key))
        if isinstance(value, np.ndarray):
            out.write(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04(K\x01")
            out.write(b"".join(b"M" + side.to_bytes(2, "little") for side in value.shape) + b"\x86")
            out.write(b"cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
            out.write(text(value.tobytes()) + b"tb")
        elif isinstance(value, list):
            out.write(b"](" + b"".join(b"K" + bytes([each]) if isinstance(each, int) else text(each) for each in value) + b"e")
        else:
            out.write(text(value))
    return out.getvalue() + b"u."


def cifar10_python(folder: Path, write: Callable[[dict[bytes, Any]], bytes] = old_pickle) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        labels = [(number + place) % 10 for place in range(10)]
        names = [b"img_%d.png" % place for place in range(10)]
        entries = {b"batch_label": name.encode(), b"labels": labels, b"data": PIXELS + np.uint8(number), b"filenames": names}
        (folder / name).write_bytes(write(entries))
    return folder


def cifar10_binary(folder: Path) -> Path:
    """Records of one label byte and 3,072 pixels."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate([*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]):
        records = [bytes([(number + place) % 10]) + (PIXELS[place] + np.uint8(number)).tobytes() for place in range(10)]
        (folder / name).write_bytes(b"".join(records))
    return folder


def test_cifar10_is_the_same_in_both_versions(tmp_path: Path) -> None:
    from_binary = Cifar10(path=str(cifar10_binary(tmp_path / "bin"))).load(STREAM)
    cifar10_python(tmp_path / "cifar-10-batches-py")
    from_python = Cifar10(path=str(tmp_path)).load(STREAM)  # in the folder that the archive makes
    assert from_binary.train_inputs.shape == (50, 3, 32, 32)
    # the second file's fourth image: pixels + 1 (modulo 256), red first, row by row; its label 1 + 3
    image = (PIXELS[3] + np.uint8(1)).reshape(3, 32, 32)
    assert np.array_equal(from_binary.train_inputs[13], (image / 255).astype(np.float32))
    assert from_binary.train_labels[13] == 4
    for name in ("train_inputs", "train_labels", "test_inputs", "test_labels"):
        assert np.array_equal(getattr(from_binary, name), getattr(from_python, name))


def test_pickles_of_newer_pythons_are_read_too(tmp_path: Path) -> None:
    for protocol in (2, 3, 4, 5):
        folder = cifar10_python(tmp_path / str(protocol), lambda entries, protocol=protocol: pickle.dumps(entries, protocol=protocol))
        try:
            assert Cifar10(path=str(folder)).load(STREAM).train_inputs.shape == (50, 3, 32, 32)
        except DataError as error:
            # numpy's protocol 5 hands the array's bytes to a function that the published files do not name
            assert protocol == 5, error


def test_cifar100(tmp_path: Path) -> None:
    pixels = GENERATOR.integers(0, 256, (100, 3072)).astype(np.uint8)
    for name in ("train", "test"):
        records = [bytes([place % 20, place]) + pixels[place].tobytes() for place in range(100)]
        (tmp_path / f"{name}.bin").write_bytes(b"".join(records))
    fine, coarse = (Cifar100(path=str(tmp_path), labels=labels).load(STREAM) for labels in ("fine", "coarse"))
    assert fine.train_labels.tolist() == list(range(100))
    assert coarse.train_labels.tolist() == [place % 20 for place in range(100)]
    assert (fine.num_classes, coarse.num_classes) == (100, 20)
    folder = tmp_path / "python"
    folder.mkdir()
    for name in ("train", "test"):
        entries = {b"fine_labels": list(range(100)), b"coarse_labels": [place % 20 for place in range(100)], b"data": pixels}
        (folder / name).write_bytes(old_pickle(entries))
    again = Cifar100(path=str(folder)).load(STREAM)
    assert np.array_equal(again.train_inputs, fine.train_inputs)
    assert np.array_equal(again.train_labels, fine.train_labels)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch " + os.environ["NETFL_EVIL"],)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    mark = tmp_path / "ran"
    monkeypatch.setenv("NETFL_EVIL", str(mark))
    folder = cifar10_python(tmp_path / "data")
    evil = pickle.dumps({"data": Evil(), "labels": []}, protocol=protocol)
    (folder / "data_batch_3").write_bytes(evil)
    with pytest.raises(DataError, match=r"data_batch_3: .*(asks for 'posix.system'|is no pickle of protocol 2)"):
        Cifar10(path=str(folder)).load(STREAM)
    assert not mark.exists()
    pickle.loads(evil)  # ... and it would have run
    assert mark.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x02cos\nsystem\n(S'true'\ntR.", "byte 2: the pickle asks for 'os.system'"),
        (b"\x80\x02cbuiltins\neval\n.", "byte 2: the pickle asks for 'builtins.eval'"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct.__globals__\n.", "asks for"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "asks for 'os.system'"),
        (b"\x80\x02(ios\nsystem\n.", "instruction INST"),
        (b"\x80\x02P1\n.", "instruction PERSID"),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02K\x01r\xff\xff\xff\x7f.", "numbers 2147483647 values"),
        (b"\x80\x02]q\x01.", "holds a list; expected a dictionary"),
        (b"", "is no pickle"),
        (b"hello", "is no pickle"),
        (b"\x80\x02}q\x01(U", "is cut short"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "is cut short"),
        (b"\x80\x02e.", "is no pickle that netfl reads"),
    ],
)
def test_other_pickles_that_are_wrong(data: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_pickle(data, Path("batch"))
    assert message in str(caught.value)


def test_no_change_of_a_pickle_raises_anything_else(tmp_path: Path) -> None:
    whole = old_pickle({b"labels": [1, 2, 3], b"data": PIXELS[:3, :12].copy()})
    assert read_pickle(whole, Path("batch"))["labels"] == [1, 2, 3]
    for _ in range(3000):
        changed = bytearray(whole)
        for place in GENERATOR.integers(0, len(whole), GENERATOR.integers(1, 4)):
            changed[place] = GENERATOR.integers(256)
        try:
            found = read_pickle(bytes(changed[: GENERATOR.integers(1, len(changed) + 1)]), Path("batch"))
            if hasattr(found.get("data"), "array"):
                found["data"].array()
        except (DataError, ValueError):
            pass


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({b"labels": [1] * 10}, "expected the entries 'data' and 'labels', got 'labels'"),
        ({b"labels": [1] * 9, b"data": PIXELS}, "entry 'labels': expected a list of 10 labels"),
        ({b"labels": [1] * 9 + [10], b"data": PIXELS}, "entry 'labels': label 9: expected 0 to 9, got 10"),
        ({b"labels": [1] * 10, b"data": PIXELS[:, :12].copy()}, "entry 'data': expected images of 3072 bytes"),
        ({b"labels": [1] * 10, b"data": b"abc"}, "entry 'data': expected an array of bytes"),
    ],
)
def test_cifar_pickles_with_other_contents(tmp_path: Path, entries: dict[bytes, Any], message: str) -> None:
    (cifar10_python(tmp_path) / "data_batch_2").write_bytes(old_pickle(entries))
    with pytest.raises(DataError, match=f"data_batch_2: {message}"):
        Cifar10(path=str(tmp_path)).load(STREAM)


def test_arrays_of_other_types_in_a_pickle(tmp_path: Path) -> None:
    folder = cifar10_python(tmp_path)
    for values in (PIXELS.astype(np.float32), np.array([object()] * 3), np.asfortranarray(PIXELS), PIXELS[0]):
        (folder / "test_batch").write_bytes(pickle.dumps({"data": values, "labels": [0] * 10}, protocol=2))
        with pytest.raises(DataError, match="test_batch: "):
            Cifar10(path=str(folder)).load(STREAM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # 10 records of 3,073 bytes; 30,000 bytes hold 9 of them (27,657) and 2,343 bytes of the tenth
        (lambda data: data[:30_000], "byte 27657: expected whole records of 3073 bytes, the last has 2343"),
        (lambda data: b"", "byte 0: expected whole records"),
        (lambda data: data[:6146] + b"\x0b" + data[6147:], "byte 6146: expected a label from 0 to 9, got 11"),
    ],
)
def test_damaged_cifar(tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    path = cifar10_binary(tmp_path) / "data_batch_4.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"data_batch_4.bin: {message}"):
        Cifar10(path=str(tmp_path)).load(STREAM)


# --- UCI-HAR ----------------------------------------------------------------------------------------------------------------

SIGNALS = [f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]


def har_folder(folder: Path) -> Path:
    """Two blanks and sixteen digits a number, as in the archive."""
    for part, count, people in (("train", 12, (1, 3, 7)), ("test", 6, (2, 4))):
        below = folder / "UCI HAR Dataset" / part
        (below / "Inertial Signals").mkdir(parents=True)
        (below / f"y_{part}.txt").write_text("".join(f"{place % 6 + 1}\n" for place in range(count)))
        (below / f"subject_{part}.txt").write_text("".join(f"{people[place * len(people) // count]}\n" for place in range(count)))
        lines = [" " + " ".join(f"{place + column / 1000: .7e}" for column in range(561)) for place in range(count)]
        (below / f"X_{part}.txt").write_text("\n".join(lines) + "\n")
        for number, signal in enumerate(SIGNALS):
            rows = [" ".join(f"{number + place / 100 + step / 10_000: .7e}" for step in range(128)) for place in range(count)]
            (below / "Inertial Signals" / f"{signal}_{part}.txt").write_text("\n".join(rows) + "\n")
    return folder


def test_uci_har(tmp_path: Path) -> None:
    har_folder(tmp_path)
    features = UciHar(path=str(tmp_path)).load(STREAM)
    assert features.train_inputs.shape == (12, 561)
    assert features.train_inputs[5, 560] == np.float32(5.56)
    assert features.train_labels.tolist() == [0, 1, 2, 3, 4, 5] * 2
    # subjects 1, 3 and 7 have four windows each: three natural clients
    assert features.groups is not None
    assert features.groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert features.class_names[5] == "laying"
    signals = UciHar(path=str(tmp_path / "UCI HAR Dataset"), inputs="signals").load(STREAM)
    assert signals.sample_shape == (9, 128)
    # total_acc_y is the eighth signal: 7 + 3 / 100 + 100 / 10,000
    assert signals.train_inputs[3, 7, 100] == np.float32(7.04)
    assert len(signals.test_labels) == 6


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("X_train.txt", lambda text: text[: len(text) // 2 + 50], r"X_train.txt: line \d: expected 561 numbers, got \d+"),
        ("X_train.txt", lambda text: "".join(text.splitlines(True)[:7]), "has 7 lines; expected 12, as many as y_train.txt has"),
        ("X_train.txt", lambda text: text.replace("2.0000000e+00", "x", 1), "line 3: expected numbers, got 'x'"),
        ("X_train.txt", lambda text: text.replace("2.0000000e+00", "nan", 1), "line 3: number 1 of 561 is nan"),
        ("X_train.txt", lambda text: "", "is empty"),
        ("y_train.txt", lambda text: text.replace("6", "7"), "line 6: expected a whole number from 1 to 6, got 7"),
        ("y_train.txt", lambda text: text.replace("6", "1.5"), "line 6: expected a whole number"),
        ("subject_train.txt", lambda text: text.replace("7", "31"), "line 9: expected a whole number from 1 to 30, got 31"),
    ],
)
def test_damaged_uci_har(tmp_path: Path, name: str, change: Callable[[str], str], message: str) -> None:
    path = har_folder(tmp_path) / "UCI HAR Dataset" / "train" / name
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        UciHar(path=str(tmp_path)).load(STREAM)


# --- folders of pictures ----------------------------------------------------------------------------------------------------


def picture(path: Path, shade: int, width: int = 6, height: int = 4, colour: bool = True) -> None:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((height, width, 3) if colour else (height, width), shade, np.uint8)
    image.fromarray(values).save(path)


def test_a_folder_of_pictures_a_class(tmp_path: Path) -> None:
    for number in range(10):
        picture(tmp_path / "cats" / f"{number}.png", number)
        picture(tmp_path / "dogs" / "more" / f"{number}.png", 100 + number, colour=False)
    (tmp_path / "dogs" / "notes.txt").write_text("not a picture")
    data = ImageFolder(path=str(tmp_path), test_fraction=0.25).load(STREAM)
    assert data.class_names == ("cats", "dogs")
    assert data.sample_shape == (3, 4, 6)
    # round(0.25 * 20) = 5 to test
    assert (len(data.train_labels), len(data.test_labels)) == (15, 5)
    shades = np.round(data.train_inputs[:, 0, 0, 0] * 255)
    assert ((shades >= 100) == (data.train_labels == 1)).all()
    scaled = ImageFolder(path=str(tmp_path), side=8, colour=False).load(STREAM)
    assert scaled.sample_shape == (1, 8, 8)


def test_folders_of_train_and_test_are_the_split(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("test", 2)):
        for name in ("cats", "dogs"):
            for number in range(count):
                picture(tmp_path / part / name / f"{number}.png", number)
    data = ImageFolder(path=str(tmp_path), limit=6).load(STREAM)
    assert (len(data.train_labels), len(data.test_labels)) == (6, 4)
    assert set(data.train_labels.tolist()) == {0, 1}  # shuffled before the limit
    picture(tmp_path / "test" / "mice" / "1.png", 0)
    with pytest.raises(DataError, match="the same classes in both"):
        ImageFolder(path=str(tmp_path)).load(STREAM)


def test_pictures_that_are_wrong(tmp_path: Path) -> None:
    picture(tmp_path / "cats" / "1.png", 1)
    with pytest.raises(DataError, match="at least 2 classes, got 1"):
        ImageFolder(path=str(tmp_path)).load(STREAM)
    (tmp_path / "dogs").mkdir()
    with pytest.raises(DataError, match=r"dogs: has no picture"):
        ImageFolder(path=str(tmp_path)).load(STREAM)
    picture(tmp_path / "dogs" / "1.png", 1, width=9)
    with pytest.raises(DataError, match=r"dogs/1.png: is 9 x 4 pixels and 1.png 6 x 4: set `side`"):
        ImageFolder(path=str(tmp_path)).load(STREAM)
    whole = (tmp_path / "cats" / "1.png").read_bytes()
    for wrong in (whole[: len(whole) // 2], whole[:10], b"", b"GIF89a" + bytes(100), whole[:16] + b"\x00\x00\xff\xff" * 2 + whole[24:]):
        (tmp_path / "dogs" / "1.png").write_bytes(wrong)
        with pytest.raises(DataError, match=r"dogs/1.png: "):
            ImageFolder(path=str(tmp_path)).load(STREAM)


# --- tables -----------------------------------------------------------------------------------------------------------------


def test_csv(tmp_path: Path) -> None:
    rows = "".join(f"{place},{'ab'[place % 2]},{place / 2},p{place % 5}\n" for place in range(20))
    (tmp_path / "t.csv").write_text("\ufeffone,kind,two,who\n" + rows, encoding="utf-8")
    data = Csv(path=str(tmp_path / "t.csv"), label="kind", group="who").load(STREAM)
    assert data.class_names == ("a", "b")
    assert data.sample_shape == (2,)
    assert np.array_equal(data.train_inputs[:, 0], 2 * data.train_inputs[:, 1])
    assert (data.train_inputs[:, 0] % 2 == data.train_labels).all()
    assert data.groups is not None
    assert (data.groups == data.train_inputs[:, 0] % 5).all()
    two = Csv(path=str(tmp_path / "t.csv"), label="kind", features=("two",), test_path=str(tmp_path / "t.csv"), standardise=True)
    found = two.load(STREAM)
    assert found.train_inputs.shape == (20, 1)
    assert len(found.test_labels) == 20
    assert abs(found.train_inputs.mean()) < 1e-6


def test_csv_labels_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x;y\n" + "".join(f"{place};{(2, 10, 1)[place % 3]}\n" for place in range(30)))
    assert Csv(path=str(tmp_path / "t.csv"), label="y", delimiter=";").load(STREAM).class_names == ("1", "2", "10")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the names of columns"),
        ("x,y\n", "line 1: expected the names of columns, and rows below"),
        ("x,z\n1,a\n", "line 1: no column 'y' among x, z"),
        ("x,yy\n1,a\n", "did you mean 'yy'"),
        ("x,x,y\n1,2,a\n", "line 1: two columns are named 'x'"),
        ("y\na\n", "no column is left for the features"),
        ("x,y\n1,a\n2\n", "line 3: expected 2 columns, got 1"),
        ("x,y\n1,a\ntwo,b\n", "line 3: column 'x': expected a number, got 'two'"),
        ("x,y\n1,a\n,b\n", "line 3: column 'x': expected a number, got nothing"),
        ("x,y\n1,a\ninf,b\n", "line 3: column 'x': expected a finite float32"),
        ("x,y\n1,a\n1e39,b\n", "line 3: column 'x': expected a finite float32"),
        ("x,y\n1,a\n2, \n", "line 3: column 'y': expected a label"),
        ("x,y\n1,a\n2,a\n", "at least 2 different labels, got 1: 'a' everywhere"),
        ('x,y\n1,"a\n', "line"),
        ("x,y\n1,a\n2,b\n", "no training sample"),
    ],
)
def test_csv_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        Csv(path=str(path), label="y", test_fraction=0.5).load(STREAM)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"x,y\n1,\xff\n")
    with pytest.raises(DataError, match=r"t.csv: byte 6: is not UTF-8"):
        Csv(path=str(tmp_path / "t.csv"), label="y").load(STREAM)


def test_a_limit_on_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 1000)
    (tmp_path / "t.csv").write_bytes(gzip.compress(b"x,y\n" + b"1,2\n" * 1000))
    with pytest.raises(DataError, match="longer than 1,000 bytes"):
        files.read_whole(tmp_path / "t.csv", files.MOST_BYTES)


def test_npz(tmp_path: Path) -> None:
    inputs = GENERATOR.normal(size=(20, 2, 3))
    labels = np.arange(20) % 4
    np.savez_compressed(tmp_path / "whole.npz", inputs=np.asfortranarray(inputs), labels=labels.astype(np.uint8), groups=labels * 7)
    data = Npz(path=str(tmp_path / "whole.npz"), test_fraction=0.2).load(STREAM)
    assert (data.num_classes, data.sample_shape) == (4, (2, 3))
    assert data.train_inputs.dtype == np.float32
    assert data.groups is not None
    assert np.array_equal(data.groups, data.train_labels)
    np.savez(tmp_path / "split.npz", train_inputs=inputs, train_labels=labels, test_inputs=inputs[:8], test_labels=labels[:8])
    split = Npz(path=str(tmp_path / "split.npz")).load(STREAM)
    assert np.array_equal(split.train_inputs, inputs.astype(np.float32))
    assert len(split.test_labels) == 8
    np.savez(tmp_path / "tokens.npz", inputs=GENERATOR.integers(0, 9, (20, 5)), labels=labels)
    assert Npz(path=str(tmp_path / "tokens.npz"), tokens=True).load(STREAM).train_inputs.dtype == np.int64


X, Y = np.zeros((8, 2)), np.arange(8) % 2


@pytest.mark.parametrize(
    ("arrays", "settings", "message"),
    [
        ({"inputs": X}, {}, "has no array 'labels'"),
        ({"train_inputs": X, "train_labels": Y}, {}, "has no array 'test_inputs'"),
        ({"inputs": X, "labels": Y[:7]}, {}, "8 inputs for 7 labels"),
        ({"inputs": X, "labels": Y + 10**9}, {}, "array 'labels': entry 0: expected a whole number from 0 to 65,535, got 1000000000"),
        ({"inputs": X, "labels": Y - 1}, {}, "array 'labels': entry 0: expected a whole number from 0 to 65,535, got -1"),
        ({"inputs": X, "labels": Y / 2}, {}, "array 'labels': expected whole numbers, .* got float64"),
        ({"inputs": X, "labels": Y * 0}, {}, "at least 2 different labels"),
        ({"inputs": X, "labels": Y * 2}, {}, "label 1 of 3 has no training sample: number labels from 0 without gaps"),
        ({"inputs": np.where(np.arange(16).reshape(8, 2) == 7, np.nan, 0), "labels": Y}, {}, "array 'inputs': sample 3 has"),
        ({"inputs": X.astype(str), "labels": Y}, {}, "array 'inputs': expected numbers, got <U"),
        ({"inputs": X.astype(object), "labels": Y}, {}, "array 'inputs': holds Python objects, which are pickles"),
        ({"inputs": X[:, 0], "labels": Y}, {}, r"expected samples of numbers, \(N, ...\), got shape \(8,\)"),
        ({"inputs": X, "labels": Y}, {"tokens": True}, "array 'inputs': expected whole numbers"),
    ],
)
def test_npz_that_is_wrong(tmp_path: Path, arrays: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(DataError, match=message):
        Npz(path=str(tmp_path / "t.npz"), **settings).load(STREAM)


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, inputs=X, labels=Y)
    whole = path.read_bytes()
    for wrong in (whole[:100], b"", b"PK", whole[:200] + b"x" * 8 + whole[208:], whole[:-30]):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=r"t.npz: "):
            Npz(path=str(path)).load(STREAM)
    path.write_bytes(whole[:100])
    with pytest.raises(
        DataError, match=r"t.npz: is no whole NPZ archive: .*; it ends at byte 100, where the list of a whole one's arrays ends"
    ):
        Npz(path=str(path)).load(STREAM)
    # an array whose head says more than there is: refused before memory is taken for it
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inputs.npy", head.getvalue() + bytes(64))
        archive.writestr("labels.npy", b"\x93NUMPY\x07\x00abc")
    with pytest.raises(
        DataError, match=r"array 'inputs' of shape \(1099511627776, 2\) and float64: expected 17592186044544 bytes, has 192"
    ):
        Npz(path=str(path)).load(STREAM)


# --- texts ------------------------------------------------------------------------------------------------------------------


def test_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcab" * 8)  # 40 characters: 32 train, 8 test
    (tmp_path / "b.txt").write_text("bcabc" * 8)
    data = Text(path=str(tmp_path), length=5, stride=1).load(STREAM)
    # 32 - 5 = 27 windows a file to train on, 8 - 5 = 3 to test on
    assert (data.train_inputs.shape, data.test_inputs.shape) == ((54, 5), (6, 5))
    assert data.class_names == ("a", "b", "c")
    assert data.train_inputs[0].tolist() == [0, 1, 2, 0, 1]
    assert data.train_labels[0] == 0  # "abcab", then "a"
    assert data.groups is not None
    assert data.groups.tolist() == [0] * 27 + [1] * 27
    assert data.train_inputs.dtype == np.int64
    assert Text(path=str(tmp_path / "a.txt"), length=5).load(STREAM).groups is None
    limited = Text(path=str(tmp_path), length=5, stride=1, limit=20, test_limit=2).load(STREAM)
    assert (len(limited.train_labels), len(limited.test_labels)) == (20, 2)


def test_characters_that_nothing_predicts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Zabababababababab" + "abZab" + "bbXb")
    data = Text(path=str(tmp_path / "a.txt"), length=3, stride=1, test_fraction=9 / 26).load(STREAM)
    # round(9/26 * 26) = 9 to test: "abZabbbXb". Z opens the training part and never follows a window, so labels are a and b, and
    # Z and X are token 2. Of the windows of the test part, abZ|a, bZa|b, Zab|b, abb|b, bbb|X (left out), bbX|b
    assert data.class_names == ("a", "b")
    assert data.train_inputs[0].tolist() == [2, 0, 1]
    assert data.test_inputs.tolist() == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 1], [1, 1, 2]]
    assert data.test_labels.tolist() == [0, 1, 1, 1, 1]


def test_texts_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"no text file and no folder with .txt files"):
        Text(path=str(tmp_path)).load(STREAM)
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(DataError, match=r"a.txt: has 4 characters to train on and 1 to test on; expected 81"):
        Text(path=str(tmp_path)).load(STREAM)
    (tmp_path / "a.txt").write_text("a" * 1000)
    with pytest.raises(DataError, match="at least 2 different characters"):
        Text(path=str(tmp_path)).load(STREAM)


# --- the extra hf -----------------------------------------------------------------------------------------------------------


@pytest.mark.extras
def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"x": np.arange(20.0), "v": [[float(place), 1.0] for place in range(20)], "y": ["ab"[place % 2] for place in range(20)]}
    parquet.write_table(pyarrow.table({**columns, "who": [place % 3 for place in range(20)]}), tmp_path / "t.parquet")
    data = Parquet(path=str(tmp_path / "t.parquet"), label="y", group="who").load(STREAM)
    assert data.sample_shape == (3,)
    assert (data.train_inputs[:, 0] == data.train_inputs[:, 1]).all()
    assert (data.train_inputs[:, 0] % 2 == data.train_labels).all()
    assert data.groups is not None
    assert (data.groups == data.train_inputs[:, 0] % 3).all()
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[:-50])
    with pytest.raises(DataError, match=r"t.parquet: is no whole Parquet file"):
        Parquet(path=str(tmp_path / "t.parquet"), label="y").load(STREAM)
    parquet.write_table(pyarrow.table({"x": [1.0, None], "y": [0, 1]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t.parquet: column 'x': row 1: expected finite numbers"):
        Parquet(path=str(tmp_path / "t.parquet"), label="y").load(STREAM)


@pytest.mark.extras
def test_a_local_folder_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine").mkdir()
    for name in ("train", "test"):
        table = pyarrow.table({"x": [[float(place), 0.5] for place in range(10)], "y": [place % 2 for place in range(10)]})
        parquet.write_table(table, tmp_path / "mine" / f"{name}-00000-of-00001.parquet")
    source = HuggingFace(name=str(tmp_path / "mine"), inputs="x", label="y")
    data = source.load(STREAM)
    assert data.train_inputs.tolist() == [[place, 0.5] for place in range(10)]
    assert data.class_names == ("0", "1")
    assert source.identity() == source.identity()
    with pytest.raises(DataError, match="no column 'z' among x, y"):
        HuggingFace(name=str(tmp_path / "mine"), inputs="z", label="y").load(STREAM)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingExtraError, match=r"`datasets` has no 'no-such/set'"):
        HuggingFace(name="no-such/set", inputs="x", label="y").load(STREAM)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("pyarrow", lambda path: Parquet(path=path, label="y")),
        ("datasets", lambda path: HuggingFace(name="ylecun/mnist", inputs="image", label="label")),
    ],
)
def test_an_absent_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, source: Callable[[str], DataSource]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    (tmp_path / "t.parquet").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"pip install 'netfl-sim\[hf\]'"):
        source(str(tmp_path / "t.parquet")).load(STREAM)


def test_pillow_that_is_absent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "cats" / "1.png", 1)
    picture(tmp_path / "dogs" / "1.png", 1)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'netfl-sim\[images\]'"):
        ImageFolder(path=str(tmp_path)).load(STREAM)


def test_errors_are_netfls_own() -> None:
    assert issubclass(DataError, NetflError)
    assert tables.MOST_BYTES == files.MOST_BYTES


def test_generated_sensors_have_the_shape_of_real_ones_and_are_learnable() -> None:
    from netfl.learning.datasets.sensors import GeneratedSensors

    data = GeneratedSensors(people=5, windows=40).load(Streams(1).stream("data"))
    assert data.train_inputs.shape == (160, 9, 128)
    assert data.train_inputs.dtype == np.float32
    assert data.groups is not None
    assert sorted(set(data.groups.tolist())) == [0, 1, 2, 3, 4]
    again = GeneratedSensors(people=5, windows=40).load(Streams(1).stream("data"))
    np.testing.assert_array_equal(data.train_inputs, again.train_inputs)
    # The mean over a window tells activities apart better than chance: nearest class mean, 6 classes.
    means = np.stack([data.train_inputs[data.train_labels == label].mean(axis=(0, 2)) for label in range(6)])
    guesses = np.argmin(((data.test_inputs.mean(axis=2)[:, None] - means) ** 2).sum(axis=2), axis=1)
    assert (guesses == data.test_labels).mean() > 0.5
