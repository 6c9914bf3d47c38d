"""Tables of strangers: numbers with and without names, labels apart, and one sentence for the rest."""

import gzip
import os

import numpy as np
import pytest

from pplvm.data import tables
from pplvm.data.files import from_table
from pplvm.data.tables import read_table

ROWS = [[0, 7, 255], [1, 2, 3], [9, 8, 7]]


def table(tmp_path, text, name="mine.csv"):
    path = tmp_path / name
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return read_table(path)


def lines(rows, separator=",", header=None):
    body = [separator.join(map(str, row)) for row in ([header] if header else []) + list(rows)]
    return "\n".join(body) + "\n"


@pytest.mark.parametrize("header", [None, ["a", "b", "c"], [0, 1, 2]])
@pytest.mark.parametrize(("separator", "name"), [(",", "a.csv"), (";", "a.CSV"), ("\t", "a.csv"), ("\t", "a.tsv")])
def test_numbers_are_read_with_names_and_without(tmp_path, header, separator, name):
    source = table(tmp_path, lines(ROWS, separator, header), name)
    assert source.arrays["all"].tolist() == ROWS and source.arrays["all"].dtype == np.int32
    assert not source.labels and bool(source.remarks) == (header == [0, 1, 2])


@pytest.mark.parametrize("number", ["1,5", '"1,000"', '"1,000.5"', "-2,0"])
def test_commas_within_numbers_are_told_from_words(tmp_path, number):
    with pytest.raises(ValueError, match="which is no number: write numbers with a point for the decimals"):
        table(tmp_path, f"a;b\n{number};2\n")


def test_numbered_columns_in_a_comment_are_named_in_a_remark(tmp_path):
    assert "its first line, 1,2,..., is read as names" in table(tmp_path, "#1,#2\n.5,.6\n.7,.8\n").remarks[0]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv.gz"])
def test_compressed_tables(tmp_path, name):
    assert table(tmp_path, lines(ROWS, "\t" if "tsv" in name else ","), name).arrays["all"].tolist() == ROWS


def test_what_numpy_writes(tmp_path):
    for header in ("", "a,b,label"):
        np.savetxt(tmp_path / "mine.csv", ROWS, delimiter=",", header=header)
        source = read_table(tmp_path / "mine.csv")
        assert np.array_equal(source.arrays["all"], np.array(ROWS)[:, : 2 if header else 3])
        assert not header or source.labels["all"].tolist() == [255, 3, 7]


def test_a_byte_order_mark_and_windows_lines(tmp_path):
    text = b"\xef\xbb\xbf" + lines(ROWS, header=["label", "b", "c"]).replace("\n", "\r\n").encode()
    assert table(tmp_path, text).labels["all"].tolist() == [0, 1, 9]


def test_floats_are_read_as_such(tmp_path):
    found = table(tmp_path, "a,b\n1,0.5\n2,-1e-3\n").arrays["all"]
    assert found.dtype == np.float32 and np.array_equal(found, np.array([[1, 0.5], [2, -1e-3]], np.float32))


def test_the_mnist_of_kaggle(tmp_path):
    draw = np.random.default_rng(0)
    pixels, labels = draw.integers(0, 256, (30, 784)), draw.integers(0, 10, 30)
    header = ["label", *(f"pixel{i}" for i in range(784))]
    source = table(tmp_path, lines(np.column_stack([labels, pixels]), header=header))
    assert np.array_equal(source.arrays["all"], pixels) and np.array_equal(source.labels["all"], labels)
    assert source.arrays["all"].dtype == np.int32
    assert source.remarks == ("mine.csv: column 'label' is labels and no data",)
    plain = table(tmp_path, lines(np.column_stack([labels, pixels]), header=["label", *range(784)]))
    assert np.array_equal(plain.arrays["all"], pixels)


@pytest.mark.parametrize("name", ["label", "Labels", "class", "target", "y"])
def test_labels_of_words_are_numbered(tmp_path, name):
    source = table(tmp_path, f"a,{name}\n1,virginica\n2,setosa\n3,virginica\n")
    assert source.labels["all"].tolist() == [1, 0, 1] and source.arrays["all"].tolist() == [[1], [2], [3]]


def test_a_target_of_fractions_is_data_and_told(tmp_path):
    source = table(tmp_path, "x,y\n1,0.5\n2,0.25\n")
    assert source.arrays["all"].shape == (2, 2) and not source.labels
    assert source.remarks == ("mine.csv: column 'y' holds fractions and is data",)


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index", "ID"])
def test_row_numbers_are_left_out_and_told(tmp_path, name):
    source = table(tmp_path, f"{name},a,b\n" + lines([[i, 5, 6] for i in range(4)]))
    assert source.arrays["all"].tolist() == [[5, 6]] * 4
    assert source.remarks == (f"mine.csv: column {name!r} numbers the rows and is left out",)
    kept = table(tmp_path, f"{name},a,b\n" + lines([[7, 5, 6] for i in range(4)]))
    assert kept.arrays["all"].shape == (4, 3)


def test_what_pandas_writes_with_numbered_columns(tmp_path):
    source = table(tmp_path, ",0,1,2\n" + lines([[i, *row] for i, row in enumerate(ROWS)]))
    assert source.arrays["all"].tolist() == ROWS


def test_long_tables_are_read_part_by_part(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).integers(0, 9, (50, 3))
    monkeypatch.setattr(tables, "VALUES_AT_ONCE", 21)
    mixed = [[row[0], row[1], row[2] + 0.5 if i > 30 else row[2]] for i, row in enumerate(rows)]
    assert np.array_equal(table(tmp_path, lines(mixed)).arrays["all"], np.array(mixed, np.float32))
    mixed[40][1] = "word"
    with pytest.raises(ValueError, match=r"row 40 \(the first is 0\) holds 'word' in column 'b'"):
        table(tmp_path, lines(mixed, header="abc"))
    mixed[40][1] = ""
    with pytest.raises(ValueError, match=r"row 40 \(the first is 0\) has no value in column 'b'"):
        table(tmp_path, lines(mixed, header="abc"))


REFUSED = {
    "words": (
        "a,b\n1,2\n3,cat\n",
        r"row 1 \(the first is 0\) holds 'cat' in column 'b', which is no number: leave the",
    ),
    "words first": ("1,cat\n2,dog\n", r"row 0 \(the first is 0\) holds 'cat' in column '1'"),
    "missing": ("a,b\n1,2\n3,\n", r"row 1 \(the first is 0\) has no value in column 'b': fill it in, or leave the row"),
    "missing as NA": ("a,b\nNA,2\n", r"row 0 .* has no value in column 'a'"),
    "missing, no names": ("1,2,4\nnan,2,4\n", r"row 1 .* has no value in column '0'"),
    "a short row": ("a,b,c\n1,2,3\n4,5\n", r"row 1 .* has no value in column 'c'"),
    "a long row": ("a,b\n1,2\n3,4,5\n", "mine.csv: Expected 2 fields in line 3, saw 3: give all rows one length"),
    "long rows": ("a,b\n1,2,3\n", "row 0 has 3 columns, and the first line names 2: give all rows one length"),
    "two labels": ("a,label,class\n1,2,3\n", "columns label and class may be labels: leave one in"),
    "decimal commas": ("1,5;2,5\n2,5;3,5\n", "holds '5;2' in column '1', which is no number"),
    "nothing": ("", "'mine.csv' is empty"),
    "names only": ("a,b\n", "'mine.csv' is empty"),
    "labels only": ("label\n1\n2\n", "'mine.csv' is empty"),
    "infinity": ("a,b\n1,inf\n", "row 0 of data set 'mine.csv' holds NaN or infinity"),
    "no text": (b"\x93NUMPY\x01\x00\xff\xfe", "mine.csv cannot be read as a table of text .*: save it as CSV in UTF-8"),
    "no text below": (b"a,b\n" + b"1,2\n" * 9 + b"\xff\xfe,1\n", "cannot be read as a table of text"),
    "a field without end": ('a,b\n"' + "1" * 200_000 + "\n", "mine.csv: .*EOF inside string.*: give all rows one"),
    "a huge integer": ("a,b\n1," + "9" * 40 + "\n", "holds '9999.*' in column 'b', which is no number"),
    "integers beyond float32": ("a,b\n1,20000000\n", "integers beyond 2.24"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_tables_are_refused_with_row_and_column(tmp_path, name):
    text, words = REFUSED[name]
    (tmp_path / "mine.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=words) as refusal:
        from_table(tmp_path / "mine.csv", "all")
    assert len(str(refusal.value)) < 500 and "\n" not in str(refusal.value)


def test_a_small_file_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MOST_BYTES", 10**6)
    with pytest.raises(ValueError, match="holds more than 1,000,000 bytes of text: save it as .npy"):
        table(tmp_path, b"1,2\n" * 10**6, "a.csv.gz")


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"1,2\n" * 999, mtime=0)[:-20], gzip.compress(b"1,2", mtime=0)[:9] + b"x"]
)
def test_damaged_compression_is_refused(tmp_path, content):
    (tmp_path / "a.csv.gz").write_bytes(content)
    with pytest.raises(ValueError, match="a.csv.gz cannot be read as a table of text"):
        read_table(tmp_path / "a.csv.gz")


@pytest.mark.parametrize("kind", ["fifo", "folder", "nothing"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "a.csv"
    {"fifo": lambda: os.mkfifo(path), "folder": path.mkdir, "nothing": lambda: None}[kind]()
    with pytest.raises(FileNotFoundError, match="a.csv.*: give the path of a table such as .csv"):
        read_table(path)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_whatever_noise_makes_of_a_table_is_numbers_or_a_sentence(tmp_path, name):
    text, draw = (
        lines(np.arange(120).reshape(30, 4), header=["label", "b", "c", "id"]).encode(),
        np.random.default_rng(0),
    )
    whole = gzip.compress(text) if name.endswith("gz") else text
    for _ in range(200):
        content = np.frombuffer(whole, np.uint8).copy()
        content[draw.integers(0, len(content), 2)] = draw.integers(0, 128, 2)
        (tmp_path / name).write_bytes(content.tobytes())
        try:
            assert read_table(tmp_path / name).arrays["all"].dtype.kind in "if"
        except ValueError as error:
            assert str(error).startswith((str(tmp_path), name)) and "\n" not in str(error), error
